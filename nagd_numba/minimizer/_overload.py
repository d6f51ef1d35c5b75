"""`minimize` inside `@njit` functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.extending import overload

from ..kernels.raising import WHERE_HEARD, heard
from . import algorithm
from .minimize import minimize
from .objective import COUNTS, NFEV, NIT, NJEV
from .specialize import APART, DIFFERENCES, INPLACE, TOGETHER, Functions, compiled_solver


class Result(NamedTuple):
    """What `minimize` returns in compiled code; the fields mean what they mean in its `OptimizeResult`.

    In the threads of a `prange` that Python does not hear, what would be an exception is the status 9, and `x`, `fun`
    and `jac` are NaN.
    """

    x: np.ndarray
    fun: float
    jac: np.ndarray
    nit: int
    nfev: int
    njev: int
    status: int
    success: bool


_SCHEMES = {"nag": algorithm.SEQUENCE, "fista": algorithm.SEQUENCE, "gd": algorithm.PLAIN, "momentum": algorithm.HEAVY}
_UNFIT = (
    "nagd_numba.minimize: L must be finite and > 0",
    "nagd_numba.minimize: strong_convexity must be > 0 and at most L",
    "nagd_numba.minimize: tol and maxiter must be >= 0",
    "nagd_numba.minimize: x0 must have at least one element, and finite ones",
)
_RESTARTS = {"gradient": algorithm.BY_GRADIENT, "function": algorithm.BY_FUNCTION, None: algorithm.NEVER}


@overload(minimize, prefer_literal=True)
def _minimize(
    fun,
    x0,
    args=(),
    jac=None,
    method="nag",
    L=None,
    strong_convexity=None,
    restart="gradient",
    prox=None,
    tol=1e-5,
    maxiter=10_000,
    callback=None,
    options=None,
):
    if not (isinstance(x0, types.Array) and x0.ndim == 1 and x0.dtype == types.float64):
        raise TypingError(f"nagd_numba.minimize: x0 is {x0}; a vector of float64 is needed")
    if not (_is_none(callback) and _is_none(options)):
        raise TypingError("nagd_numba.minimize: callback and options are for calls from Python")
    if not (isinstance(args, types.BaseTuple) or args == ()):
        raise TypingError(f"nagd_numba.minimize: args is {args}; a tuple is needed: (value,) for one argument")
    scheme = _one_of("method", method, _SCHEMES)
    rule = _one_of("restart", restart, _RESTARTS)
    convex = not _is_none(strong_convexity)
    if scheme == algorithm.SEQUENCE and convex:
        if _constant("method", method) == "fista":
            raise TypingError("nagd_numba.minimize: strong_convexity is not used by method 'fista'; take 'nag'")
        scheme = algorithm.CONSTANT
    rule = rule if scheme == algorithm.SEQUENCE else algorithm.NEVER
    momentum = 0.9 if scheme == algorithm.HEAVY and not convex else -1.0
    tracks = int(rule == algorithm.BY_FUNCTION)
    search = int(_is_none(L))
    functions = _functions(fun, jac, prox)
    if scheme == algorithm.HEAVY and functions.prox is not None:
        raise TypingError("nagd_numba.minimize: method 'momentum' has no proximal form")
    if callable(functions.prox) and tracks:
        raise TypingError("nagd_numba.minimize: restart='function' needs the penalty of prox: call it from Python")
    solve = compiled_solver(functions, WHERE_HEARD)
    nonnegative = functions.prox == "nonneg"
    bounded, valued = int(nonnegative), int(not callable(functions.prox))

    def compiled_minimize(
        fun,
        x0,
        args=(),
        jac=None,
        method="nag",
        L=None,
        strong_convexity=None,
        restart="gradient",
        prox=None,
        tol=1e-5,
        maxiter=10_000,
        callback=None,
        options=None,
    ):
        curvature = 0.0 if L is None else 1.0 * L
        convexity = 0.0 if strong_convexity is None else 1.0 * strong_convexity
        unfit = -1
        if not search and not (curvature > 0.0 and curvature < np.inf):
            unfit = 0
        elif convex and not (convexity > 0.0 and (search or convexity <= curvature)):
            unfit = 1
        elif not tol >= 0.0 or maxiter < 0:
            unfit = 2
        elif x0.size == 0 or not np.isfinite(x0).all():
            unfit = 3
        if unfit >= 0 and heard():
            raise ValueError(_UNFIT[unfit])
        x = x0.copy()
        first = second = np.empty(0)
        if nonnegative:
            first, second = np.zeros(x.size), np.full(x.size, np.inf)
            x = np.maximum(x, 0.0)
        settings = algorithm.Settings(
            *(scheme, rule, 0, search, tracks, bounded, valued, np.int64(maxiter)),
            *(1.0 * tol, 0.0, algorithm.NOISE, curvature, convexity, momentum),
        )
        work = np.empty((algorithm.VECTORS, x.size))
        numbers, counts = np.zeros(algorithm.NUMBERS), np.zeros(COUNTS, np.int64)
        status = algorithm.RAISED
        if unfit < 0:
            status = solve(x, work, numbers, counts, settings, first, second, args)
        if status == algorithm.RAISED:
            x[:] = work[algorithm.G][:] = numbers[algorithm.TOTAL] = np.nan
        total, success = numbers[algorithm.TOTAL], status <= algorithm.DECREASE
        return Result(x, total, work[algorithm.G].copy(), counts[NIT], counts[NFEV], counts[NJEV], status, success)

    return compiled_minimize


def _functions(fun: Any, jac: Any, prox: Any) -> Functions:
    own = _dispatcher("fun", fun)
    gradient = None
    if _is_none(jac):
        form = DIFFERENCES
    elif isinstance(jac, types.Dispatcher):
        form, gradient = APART, jac.dispatcher
    elif _constant("jac", jac) is True:
        form = TOGETHER
    elif _constant("jac", jac) == "inplace":
        form = INPLACE
    else:
        raise TypingError(f"nagd_numba.minimize: jac is {jac}; None, True, 'inplace' or an @njit function is needed")
    if isinstance(prox, types.Dispatcher):
        return Functions(own, gradient, form, prox.dispatcher)
    name = None if _is_none(prox) else _constant("prox", prox)
    if name not in (None, "nonneg"):
        raise TypingError(f"nagd_numba.minimize: prox is {name!r}; None, 'nonneg' or an @njit function is needed here")
    return Functions(own, gradient, form, name)


def _dispatcher(name: str, kind: Any) -> Any:
    if not isinstance(kind, types.Dispatcher):
        raise TypingError(f"nagd_numba.minimize: {name} is {kind}; an @njit function is needed in compiled code")
    return kind.dispatcher


def _is_none(kind: Any) -> bool:
    return kind is None or isinstance(kind, types.NoneType) or (isinstance(kind, types.Omitted) and kind.value is None)


def _one_of(name: str, kind: Any, table: dict[Any, int]) -> int:
    value = None if _is_none(kind) else _constant(name, kind)
    if value not in table:
        raise TypingError(f"nagd_numba.minimize: {name} is {value!r}; one of {list(table)} is needed")
    return table[value]


def _constant(name: str, kind: Any) -> Any:
    if isinstance(kind, types.Literal):
        return kind.literal_value
    if isinstance(kind, types.Omitted):
        return kind.value
    if isinstance(kind, types.Type):
        raise TypingError(f"nagd_numba.minimize: {name} must be a constant inside compiled code, got {kind}")
    return kind


# The first `nagd_numba.minimize` of a process may stand in a function that is being compiled: Numba imports this module
# when it looks the name up, and read its lists of overloads before.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
