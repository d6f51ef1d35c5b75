"""Lasso: a sparse vector from few noisy products, `|A x - b|^2/2 + w |x|_1`, with and without restarts of the momentum.

Prints the iterations to a millionth of the way to the optimum, and how well the vector is found; writes lasso.png.
"""

import numpy as np
from numba import njit

from nagd_numba import minimize


@njit
def misfit(x, A, b):
    """`|A x - b|^2/2` and its gradient."""
    r = np.dot(A, x) - b
    return 0.5 * np.dot(r, r), np.dot(r, A)


rng = np.random.default_rng(0)
A = rng.normal(size=(500, 2000)) / np.sqrt(500)
truth = np.zeros(2000)
truth[rng.choice(2000, 100, replace=False)] = rng.normal(size=100)
b = A @ truth + 0.01 * rng.normal(size=500)
weight = 0.1 * np.abs(A.T @ b).max()
start = np.zeros(2000)
common = {"jac": True, "L": np.linalg.norm(A, 2) ** 2, "prox": "l1", "options": {"l1": weight}}

best = minimize(misfit, start, (A, b), tol=1e-9, **common)
gaps = {}
for name, restart in (("FISTA", None), ("with restarts", "gradient")):
    path = gaps[name] = [0.5 * b @ b - best.fun]

    def follow(intermediate_result, path=path):
        path.append(intermediate_result.fun - best.fun)
        return path[-1] <= 1e-6 * path[0]

    minimize(misfit, start, (A, b), restart=restart, tol=0.0, callback=follow, **common)
    print(f"{name}: {len(path) - 1} iterations")
share = (len(gaps["with restarts"]) - 1) / (len(gaps["FISTA"]) - 1)
found = np.flatnonzero(best.x)
print(f"restarts need {share:.0%} of FISTA's iterations")
print(f"{len(found)} elements are not 0, {np.isin(found, np.flatnonzero(truth)).sum()} of them rightly so")

try:
    from matplotlib import pyplot
except ImportError:
    print("no plot: matplotlib is not installed")
else:
    for name, path in gaps.items():
        pyplot.semilogy(np.maximum(path, 1e-16) / path[0], label=name)
    pyplot.xlabel("iterations")
    pyplot.ylabel("(F - F*) / (F0 - F*)")
    pyplot.legend()
    pyplot.savefig("lasso.png")
