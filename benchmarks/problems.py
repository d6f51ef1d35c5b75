"""Problems with a known answer for `minimize`: what `benchmarks.minimize` shows and the tests check."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from nagd_numba import minimize


@njit
def quadratic(x, A, b):
    """`x A x / 2 - b x`, and its gradient."""
    Ax = np.dot(A, x)
    return 0.5 * np.dot(x, Ax) - np.dot(b, x), Ax - b


@njit
def least_squares(x, A, b):
    """`|A x - b|^2 / 2`, and its gradient."""
    r = np.dot(A, x) - b
    return 0.5 * np.dot(r, r), np.dot(r, A)


@njit
def logistic(w, X, y, ridge):
    """The mean of `log(1 + exp(-y_i <x_i, w>))`, y_i = ±1, plus `ridge/2 |w|^2`, and its gradient."""
    margin = y * np.dot(X, w)
    loss, weights = 0.5 * ridge * np.dot(w, w), np.empty_like(margin)
    for i in range(margin.size):
        e = np.exp(-abs(margin[i]))
        loss += (np.log1p(e) + max(-margin[i], 0.0)) / margin.size
        weights[i] = -y[i] * (e if margin[i] > 0 else 1.0) / (1.0 + e) / margin.size
    return loss, np.dot(weights, X) + ridge * w


@njit
def worst_function(x, L):
    """Nesterov's: `L/4 (x_1^2/2 + sum (x_i - x_{i+1})^2/2 + x_n^2/2 - x_1)`, and its gradient."""
    n = x.size
    g = np.empty(n)
    total = 0.5 * x[0] ** 2 + 0.5 * x[n - 1] ** 2 - x[0]
    for i in range(n):
        g[i] = 2.0 * x[i]
        if i > 0:
            g[i] -= x[i - 1]
        if i < n - 1:
            g[i] -= x[i + 1]
            total += 0.5 * (x[i] - x[i + 1]) ** 2
    g[0] -= 1.0
    return 0.25 * L * total, 0.25 * L * g


@dataclass
class Problem:
    """A function that returns value and gradient, where to start, and the answer."""

    fun: Any
    args: tuple[Any, ...]
    x0: np.ndarray
    L: float
    convexity: float = 0.0
    least: float = np.nan  # F at the optimum
    l1: float = 0.0

    def run(self, accuracy=0.0, maxiter=10_000, **options):
        """`minimize` until `(F - F*)/(F_0 - F*) <= accuracy`; returns its result, and that ratio at x_0, x_1, ..."""
        start = self.fun(self.x0, *self.args)[0] + self.l1 * np.abs(self.x0).sum()
        path = [1.0]

        def watch(intermediate_result):
            path.append((intermediate_result.fun - self.least) / (start - self.least))
            return path[-1] <= accuracy

        own = {"prox": "l1", "options": {"l1": self.l1}} if self.l1 else {}
        own = {"jac": True, "L": self.L, "tol": 0.0, "maxiter": maxiter, **own, **options}
        return minimize(self.fun, self.x0, self.args, callback=watch, **own), np.array(path)


def rotated_quadratic(n=500, condition=1e4, seed=0):
    """The spectrum of a chain of springs, `m + (1 - m) sin^2`, in a random basis; soft modes are the farther away.

    The distances are `eigenvalue^(-1/3)`: between modes of equal distance and modes of equal energy.  How many
    iterations a method needs depends on the spectrum and the start, not on the condition number alone.
    """
    rng = np.random.default_rng(seed)
    convexity = 1 / condition
    eigenvalues = convexity + (1 - convexity) * np.sin(np.linspace(0, np.pi / 2, n)) ** 2
    modes = eigenvalues ** (-1 / 3)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    A = (q * eigenvalues) @ q.T
    A = (A + A.T) / 2
    b = A @ (q @ modes)
    return Problem(quadratic, (A, b), np.zeros(n), 1.0, convexity, -0.5 * float(eigenvalues @ modes**2))


def lasso(rows=500, columns=2000, nonzero=100, seed=0):
    """A sparse vector seen through a Gaussian matrix, with noise; the weight is a tenth of the largest that matters."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(rows, columns)) / np.sqrt(rows)
    truth = np.zeros(columns)
    truth[rng.choice(columns, nonzero, replace=False)] = rng.normal(size=nonzero)
    b = A @ truth + 0.01 * rng.normal(size=rows)
    L = float(np.linalg.eigvalsh(A @ A.T)[-1])
    made = Problem(least_squares, (A, b), np.zeros(columns), L, l1=0.1 * float(np.abs(A.T @ b).max()))
    options = {"l1": made.l1}
    made.least = minimize(made.fun, made.x0, made.args, True, L=L, prox="l1", options=options, tol=1e-10).fun
    return made


def logistic_regression(rows=1000, columns=100, ridge=1e-4, seed=0):
    """Two classes that overlap, features of unequal size."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns)) * np.geomspace(1.0, 0.1, columns)
    w = rng.normal(size=columns)
    y = np.where(X @ w + rng.normal(size=rows) > 0, 1.0, -1.0)
    L = float(np.linalg.norm(X, 2) ** 2) / (4 * rows) + ridge
    made = Problem(logistic, (X, y, ridge), np.zeros(columns), L, ridge)
    made.least = minimize(made.fun, made.x0, made.args, True, L=L, tol=1e-12).fun
    return made


def worst(k, L=1.0):
    """The function of 2k + 1 variables on which no gradient method is better than the lower bound after k steps."""
    n = 2 * k + 1
    made = Problem(worst_function, (L,), np.zeros(n), L)
    made.least = L / 8 * (1 / (n + 1) - 1)
    return made


def two_curvatures(condition=100.0):
    """`(x_1^2/condition + x_2^2)/2` from (1, 1)."""
    A = np.diag([1 / condition, 1.0])
    return Problem(quadratic, (A, np.zeros(2)), np.ones(2), 1.0, 1 / condition, 0.0)


def best_on_quadratics(L, m):
    """The constant momentum with the best rate on quadratics, 1 - 2/sqrt(3 L/m + 1) (Lessard, Recht, Packard 2016)."""
    root = np.sqrt(3 * L / m + 1)
    return {"L": (3 * L + m) / 4, "options": {"momentum": (root - 2) / (root + 2)}}
