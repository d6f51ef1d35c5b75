"""What was the temperature at the start?  A rod with cold ends, measured at one later time, with noise.

The simulation `u_t = u_xx` (implicit Euler), its adjoint and the whole optimisation are one compiled function, in which
Nesterov's method is called; a Tikhonov term `m/2 |u_0|^2` makes the problem well posed and m-strongly convex.
Prints the errors of the start and of its prediction; writes heat_equation.png.
"""

import numpy as np
from numba import njit

from nagd_numba import minimize

CELLS, STEPS, TIME = 200, 50, 0.002
RIDGE = 1e-4


@njit
def diffuse(u, steps, ratio):
    """Implicit steps, each a tridiagonal solve: `(1 + 2 r) u_i - r (u_{i-1} + u_{i+1}) = u_i` of before."""
    n = u.size
    u, factors = u.copy(), np.empty(n)
    for _ in range(steps):
        factors[0] = -ratio / (1 + 2 * ratio)
        u[0] /= 1 + 2 * ratio
        for i in range(1, n):
            pivot = 1 + 2 * ratio + ratio * factors[i - 1]
            factors[i] = -ratio / pivot
            u[i] = (u[i] + ratio * u[i - 1]) / pivot
        for i in range(n - 2, -1, -1):
            u[i] -= factors[i] * u[i + 1]
    return u


@njit
def misfit(start, measured, steps, ratio, ridge):
    """Half the squared misfit, and its gradient by the adjoint: the same steps backwards, which are symmetric."""
    residual = diffuse(start, steps, ratio) - measured
    gradient = diffuse(residual, steps, ratio) + ridge * start
    return 0.5 * np.sum(residual**2) + 0.5 * ridge * np.sum(start**2), gradient


@njit
def reconstruct(measured, steps, ratio, ridge):
    """One compiled call: no step enlarges `u`, so the curvature is at most 1 + ridge."""
    return minimize(
        misfit,
        np.zeros(measured.size),
        args=(measured, steps, ratio, ridge),
        jac=True,
        L=1.0 + ridge,
        strong_convexity=ridge,
        tol=1e-8,
    )


x = (np.arange(CELLS) + 1) / (CELLS + 1)
ratio = TIME / STEPS * (CELLS + 1) ** 2
truth = np.exp(-(((x - 0.3) / 0.06) ** 2)) + 0.6 * np.exp(-(((x - 0.65) / 0.1) ** 2))
rng = np.random.default_rng(0)
measured = diffuse(truth, STEPS, ratio) + 0.003 * rng.normal(size=CELLS)
found = reconstruct(measured, STEPS, ratio, RIDGE)


def error(u):
    return np.linalg.norm(u - truth) / np.linalg.norm(truth)


residual = np.sqrt(np.mean((diffuse(found.x, STEPS, ratio) - measured) ** 2))
print(f"{found.nit} iterations, converged: {found.success}")
print(f"error of the start: {error(found.x):.1%}, of the measurement taken for it: {error(measured):.1%}")
print(f"misfit of the measurement: {residual:.4f}, noise: 0.0030")

try:
    from matplotlib import pyplot
except ImportError:
    print("no plot: matplotlib is not installed")
else:
    pyplot.plot(x, truth, label="start")
    pyplot.plot(x, measured, ".", ms=3, label="measured later")
    pyplot.plot(x, found.x, label="reconstructed")
    pyplot.legend()
    pyplot.savefig("heat_equation.png")
