"""Thirty unconstrained problems of More, Garbow and Hillstrom: evaluations of `minimize` beside SciPy's.

    python -m benchmarks.unconstrained            prints a table: status, least value and evaluations of each method

Each is a sum of squares, from its standard start.  Residuals are written so that they take complex numbers: the
Jacobian is their derivative by the complex step, exact to rounding.

Source: J. More, B. Garbow, K. Hillstrom, Testing unconstrained optimization software, ACM TOMS 7 (1981) 17-41.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

TOL, MAXITER = 1e-5, 20_000


@dataclass
class Problem:
    """`sum r_i(x)^2` and its gradient, the standard start, and the least values that the source gives."""

    name: str
    residuals: Callable
    x0: np.ndarray
    least: tuple[float, ...] = (0.0,)

    def __call__(self, x):
        with np.errstate(all="ignore"):
            r = self.residuals(x)
            J = np.stack([self.residuals(x + 1e-200j * e).imag / 1e-200 for e in np.eye(len(x))], axis=1)
            return float(r @ r), 2.0 * (r @ J)


def rosenbrock(x):
    odd, even = x[::2], x[1::2]
    return np.concatenate([10 * (even - odd**2), 1 - odd])


def freudenstein_roth(x):
    a, b = x
    return np.array([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


def powell_badly_scaled(x):
    return np.array([1e4 * x[0] * x[1] - 1, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001])


def brown_badly_scaled(x):
    return np.array([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(x):
    return np.array([y - x[0] * (1 - x[1] ** i) for i, y in ((1, 1.5), (2, 2.25), (3, 2.625))])


def jennrich_sampson(x):
    i = np.arange(1, 11)
    return 2 + 2 * i - (np.exp(i * x[0]) + np.exp(i * x[1]))


def helical_valley(x):
    turn = np.arctan(x[1] / x[0]) / (2 * np.pi) + (0.5 if np.real(x[0]) < 0 else 0.0)
    return np.array([10 * (x[2] - 10 * turn), 10 * (np.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2]])


def bard(x):
    y = np.array([14, 18, 22, 25, 29, 32, 35, 39, 37, 58, 73, 96, 134, 210, 439]) / 100
    u = np.arange(1, 16)
    v = 16 - u
    return y - (x[0] + u / (v * x[1] + np.minimum(u, v) * x[2]))


def gaussian(x):
    half = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521]
    t = (8 - np.arange(1, 16)) / 2
    return x[0] * np.exp(-x[1] * (t - x[2]) ** 2 / 2) - np.array([*half, 0.3989, *half[::-1]])


def box(x):
    t = 0.1 * np.arange(1, 11)
    return np.exp(-t * x[0]) - np.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


def powell_singular(x):
    a, b, c, d = x[::4], x[1::4], x[2::4], x[3::4]
    return np.concatenate([a + 10 * b, np.sqrt(5) * (c - d), (b - 2 * c) ** 2, np.sqrt(10) * (a - d) ** 2])


def wood(x):
    a, b, c, d = x
    return np.array(
        [
            *(10 * (b - a**2), 1 - a, np.sqrt(90) * (d - c**2), 1 - c),
            *(np.sqrt(10) * (b + d - 2), (b - d) / np.sqrt(10)),
        ]
    )


def kowalik_osborne(x):
    y = np.array([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
    u = np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
    return y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x):
    t = np.arange(1, 21) / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


def biggs(x):
    t = 0.1 * np.arange(1, 14)
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    return x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1]) + x[5] * np.exp(-t * x[4]) - y


def watson(x):
    t, j = np.arange(1, 30)[:, None] / 29, np.arange(len(x))
    slopes = (j[1:] * x[1:] * t ** (j[1:] - 1)).sum(axis=1)
    return np.concatenate([slopes - (x * t**j).sum(axis=1) ** 2 - 1, [x[0], x[1] - x[0] ** 2 - 1]])


def penalty_1(x):
    return np.concatenate([np.sqrt(1e-5) * (x - 1), [(x**2).sum() - 0.25]])


def penalty_2(x):
    n, a = len(x), np.sqrt(1e-5)
    i = np.arange(2, n + 1)
    y = np.exp(i / 10) + np.exp((i - 1) / 10)
    first = a * (np.exp(x[1:] / 10) + np.exp(x[:-1] / 10) - y)
    second = a * (np.exp(x[1:] / 10) - np.exp(-0.1))
    return np.concatenate([[x[0] - 0.2], first, second, [(np.arange(n, 0, -1) * x**2).sum() - 1]])


def variably_dimensioned(x):
    total = (np.arange(1, len(x) + 1) * (x - 1)).sum()
    return np.concatenate([x - 1, [total, total**2]])


def trigonometric(x):
    n = len(x)
    return n - np.cos(x).sum() + np.arange(1, n + 1) * (1 - np.cos(x)) - np.sin(x)


def brown_almost_linear(x):
    return np.concatenate([x[:-1] + x.sum() - (len(x) + 1), [np.prod(x) - 1]])


def _grid(n):
    h = 1 / (n + 1)
    return h, h * np.arange(1, n + 1)


def discrete_boundary_value(x):
    h, t = _grid(len(x))
    padded = np.concatenate([[0], x, [0]])
    return 2 * x - padded[:-2] - padded[2:] + h**2 * (x + t + 1) ** 3 / 2


def discrete_integral_equation(x):
    h, t = _grid(len(x))
    cubes = (x + t + 1) ** 3
    before, after = np.cumsum(t * cubes), np.cumsum(((1 - t) * cubes)[::-1])[::-1]
    return x + h * ((1 - t) * before + t * np.concatenate([after[1:], [0]])) / 2


def broyden_tridiagonal(x):
    padded = np.concatenate([[0], x, [0]])
    return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1


def broyden_banded(x):
    n = len(x)
    near = [[j for j in range(max(0, i - 5), min(n, i + 2)) if j != i] for i in range(n)]
    return np.array([x[i] * (2 + 5 * x[i] ** 2) + 1 - (x[j] * (1 + x[j])).sum() for i, j in enumerate(near)])


def linear_full_rank(x):
    m, n = 20, len(x)
    return np.concatenate([x, np.zeros(m - n)]) - 2 * x.sum() / m - 1


def linear_rank_one(x):
    return np.arange(1, 21) * (np.arange(1, len(x) + 1) * x).sum() - 1


def chebyquad(x):
    n = len(x)
    y = 2 * x - 1
    before, now, found = np.ones_like(y), y, []
    for i in range(1, n + 1):
        found.append(now.mean() - (0.0 if i % 2 else -1 / (i**2 - 1)))
        before, now = now, 2 * y * now - before
    return np.array(found)


def _problems():
    grid = _grid(10)[1]
    yield rosenbrock, [-1.2, 1.0], (0.0,)
    yield freudenstein_roth, [0.5, -2.0], (0.0, 48.98425)
    yield powell_badly_scaled, [0.0, 1.0], (0.0,)
    yield brown_badly_scaled, [1.0, 1.0], (0.0,)
    yield beale, [1.0, 1.0], (0.0,)
    yield jennrich_sampson, [0.3, 0.4], (124.3622,)
    yield helical_valley, [-1.0, 0.0, 0.0], (0.0,)
    yield bard, [1.0, 1.0, 1.0], (8.214877e-3,)
    yield gaussian, [0.4, 1.0, 0.0], (1.127933e-8,)
    yield box, [0.0, 10.0, 20.0], (0.0,)
    yield powell_singular, [3.0, -1.0, 0.0, 1.0], (0.0,)
    yield wood, [-3.0, -1.0, -3.0, -1.0], (0.0,)
    yield kowalik_osborne, [0.25, 0.39, 0.415, 0.39], (3.075056e-4,)
    yield brown_dennis, [25.0, 5.0, -5.0, -1.0], (85822.20,)
    yield biggs, [1.0, 2.0, 1.0, 1.0, 1.0, 1.0], (0.0, 5.655650e-3)
    yield watson, np.zeros(6), (2.287670e-3,)
    yield rosenbrock, np.tile([-1.2, 1.0], 50), (0.0,)
    yield powell_singular, np.tile([3.0, -1.0, 0.0, 1.0], 25), (0.0,)
    yield penalty_1, np.arange(1.0, 11.0), (7.087651e-5,)
    yield penalty_2, np.full(10, 0.5), (2.936605e-4,)
    yield variably_dimensioned, 1 - np.arange(1, 11) / 10, (0.0,)
    yield trigonometric, np.full(10, 0.1), (0.0, 2.795057e-5)
    yield brown_almost_linear, np.full(10, 0.5), (0.0, 1.0)
    yield discrete_boundary_value, grid * (grid - 1), (0.0,)
    yield discrete_integral_equation, grid * (grid - 1), (0.0,)
    yield broyden_tridiagonal, np.full(10, -1.0), (0.0,)
    yield broyden_banded, np.full(10, -1.0), (0.0,)
    yield linear_full_rank, np.ones(10), (10.0,)
    yield linear_rank_one, np.ones(10), (190 / 41,)
    yield chebyquad, np.arange(1, 9) / 9, (3.516873e-3,)


def problems():
    """All of them."""
    return [
        Problem(f"{residuals.__name__} {len(x0)}", residuals, np.array(x0, float), least)
        for residuals, x0, least in _problems()
    ]


def solve(problem, method):
    """The result of a method: of `minimize`, or "L-BFGS-B" or "CG" of SciPy's."""
    if method in ("L-BFGS-B", "CG"):
        from scipy.optimize import minimize

        options = {"gtol": TOL, "maxiter": MAXITER}
        options.update({"ftol": 0.0, "maxfun": 10 * MAXITER} if method == "L-BFGS-B" else {"norm": np.inf})
        return minimize(problem, problem.x0, jac=True, method=method, options=options)
    from nagd_numba import minimize

    return minimize(problem, problem.x0, jac=True, method=method, tol=TOL, maxiter=MAXITER)


def solved(problem, result):
    """Is its value one of the least values, to 1e-4 of the start's above it?"""
    start = problem(problem.x0)[0]
    return any(abs(result.fun - least) <= 1e-4 * max(least, min(start, 1.0)) for least in problem.least)


def main():
    from rich.console import Console
    from rich.table import Table

    methods = ("nag", "L-BFGS-B", "CG")
    table = Table(*("problem, n", *methods, *(f"F, {method}" for method in methods)), title="evaluations (+ solved)")
    for problem in problems():
        results = [solve(problem, method) for method in methods]
        counts = [f"{r.nfev:,}{'' if solved(problem, r) else ' -'}" for r in results]
        table.add_row(problem.name, *counts, *(f"{r.fun:.4g}" for r in results))
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
