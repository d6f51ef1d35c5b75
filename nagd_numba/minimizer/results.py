"""What `minimize` and `minimize_many` return, and what ended them in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import algorithm, settings
from .objective import NFEV, NIT, NJEV, RESTARTS

CALLBACK_STATUS = 99  # SciPy's


def described(
    x: np.ndarray, g: np.ndarray, numbers: np.ndarray, counts: np.ndarray, status: int, wanted: settings.Choices
) -> Any:
    """SciPy's result."""
    from scipy.optimize import OptimizeResult

    return OptimizeResult(
        x=x,
        fun=float(numbers[algorithm.TOTAL]),
        jac=g,
        nit=int(counts[NIT]),
        nfev=int(counts[NFEV]),
        njev=int(counts[NJEV]),
        status=CALLBACK_STATUS if status == algorithm.CALLBACK else int(status),
        success=status in (algorithm.GRADIENT, algorithm.DECREASE),
        message=message(status, wanted),
        L=float(numbers[algorithm.CURVATURE]),
        restarts=int(counts[RESTARTS]),
    )


def message(status: int, wanted: settings.Choices) -> str:
    """What ended it, in words."""
    s = wanted.settings
    what = "gradient mapping" if wanted.prox is not None else "gradient"
    above = f"L = {s.curvature:g} is below the curvature" if not s.search else "jac is not its gradient"
    best = "  x is the best point that was seen."
    return {
        algorithm.GRADIENT: f"Converged: no element of the {what} is above tol = {s.tol:g}.",
        algorithm.DECREASE: (
            f"Converged: fun fell by at most ftol = {s.ftol:g} (relative) in {algorithm.PATIENCE} iterations."
        ),
        algorithm.MAXITER: f"Stopped at maxiter = {s.maxiter} iterations, not converged.",
        algorithm.TIME: f"Stopped after maxtime = {wanted.maxtime:g} s, not converged.",
        algorithm.CALLBACK: "Stopped by the callback, not converged.",
        algorithm.START: "fun or its gradient is not finite at x0: start elsewhere.",
        algorithm.DIVERGED: f"Not finite any more, wherever it went on: fun is unbounded below, or {above}.{best}",
        algorithm.SEARCH: (
            f"No L up to 2^{algorithm.DOUBLINGS} times the last one fits: jac is not the gradient of fun, "
            f"or fun is not smooth.{best}"
        ),
        algorithm.ROSE: (
            f"Ended above the start: jac is not the gradient of fun, fun is not convex, or {above}.{best}"
        ),
        algorithm.PRECISION: (
            f"No step is seen to lead down any more, not converged: values of fun differ by less than "
            f"noise = {s.noise:g} (relative), and its gradients by no more than their rounding errors.{best}"
        ),
    }[status]


def together(
    X: np.ndarray,
    G: np.ndarray,
    numbers: np.ndarray,
    counts: np.ndarray,
    statuses: np.ndarray,
    wanted: settings.Choices,
    raised: str,
) -> Any:
    """The result of many problems."""
    from scipy.optimize import OptimizeResult

    ended = {int(status): int(count) for status, count in zip(*np.unique(statuses, return_counts=True), strict=True)}
    return OptimizeResult(
        x=X,
        fun=numbers[:, algorithm.TOTAL].copy(),
        jac=G,
        nit=counts[:, NIT].copy(),
        nfev=counts[:, NFEV].copy(),
        njev=counts[:, NJEV].copy(),
        status=statuses,
        success=statuses <= algorithm.DECREASE,
        message=summary(ended, wanted, raised),
        L=numbers[:, algorithm.CURVATURE].copy(),
        restarts=counts[:, RESTARTS].copy(),
    )


def summary(ended: Mapping[int, int], wanted: settings.Choices, raised: str) -> str:
    """How many of many problems ended with each status, in words."""
    success = sum(count for status, count in ended.items() if status <= algorithm.DECREASE)
    said = f"{success} of {sum(ended.values())} converged."
    for status, count in ended.items():
        if status == algorithm.RAISED:
            said += f"  {raised}"
        elif status > algorithm.DECREASE:
            said += f"  {count}: {message(status, wanted)}"
    return said
