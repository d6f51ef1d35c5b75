"""`minimize`: the call from Python."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.autotune import CALL_SECONDS, Autotuner
from ..validation import prefixed
from . import algorithm, array_backends, settings, user_functions
from .gpu.solve import on_device, solve_one, starts
from .objective import COUNTS, NIT
from .results import described
from .specialize import DIFFERENCES, Loop, compiled, interpreted


@prefixed("minimize")
def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    jac: Callable[..., Any] | bool | None = None,
    method: str = "nag",
    L: float | None = None,
    strong_convexity: float | None = None,
    restart: str | None = "gradient",
    prox: str | Callable[..., Any] | None = None,
    tol: float = 1e-5,
    maxiter: int = 10_000,
    callback: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
) -> Any:
    """Minimise `F(x) = fun(x) + h(x)` by an accelerated gradient method.

    With `g` the gradient of `fun` at the look-ahead point `y`, `s = 1/L`, and `prox` the proximal map of `h`:

        z = prox(y - s g);  y <- z + beta (z - x);  x <- z

    Parameters
    ----------
    fun : function
        `fun(x, *args)`, the smooth part, a real number.  Where `fun` (and `jac`, `prox`) are `@njit` functions the
        whole loop is compiled; they get vectors of the loop itself, which they must not write to.
    x0 : array of n numbers
        Where to start; not modified.  All is computed in float64, in NumPy arrays; or, where `x0` is a tensor of
        PyTorch or an array of CuPy, in such vectors of its dtype on its device: functions get them and return such.
        Where it lies on a CUDA device and `fun` is compiled (`@njit` or `@cuda.jit(device=True)`), all of the loop runs
        there in one thread, in float64, to the bits of the CPU: see the notes.
    args : tuple
        Further arguments of `fun` and `jac`.
    jac : None, True, "inplace" or function
        The gradient: `jac(x, *args)`, n numbers; True if `fun` returns `(value, gradient)`; "inplace" if it is
        `fun(x, g, *args)`, which writes the gradient into `g` and returns the value; None for central differences, at
        2n calls of `fun` for each gradient.
    method : {"nag", "fista", "gd", "momentum"}
        "nag": with `strong_convexity`, `beta = (1 - sqrt q)/(1 + sqrt q)`, `q = strong_convexity/L`, and
        `F - F* <= (1 - sqrt q)^k (F_0 - F* + strong_convexity/2 R^2)`; without, "fista".
        "fista": `beta = (t_k - 1)/t_{k+1}`, `t_{k+1} = (1 + sqrt(1 + 4 t_k^2))/2`, and (with no restart)
        `F - F* <= 2 L R^2/(k + 1)^2`.
        "gd": `beta = 0`, and `s = 2/(L + strong_convexity)` where that is given.
        "momentum": the heavy ball, with `g` taken at `x`; `beta = 0.9`, or with `strong_convexity` Polyak's
        `s = 4/(sqrt L + sqrt m)^2`, `beta = ((1 - sqrt q)/(1 + sqrt q))^2`, whose guarantee is for quadratics only.
    L : float, optional
        The Lipschitz constant of the gradient, > 0.  None: found by backtracking, at one value and gradient for each
        iteration, and one more where L is doubled; without `strong_convexity` it falls again where the curvature does:
        with `A = t_k^2/L_k` the bound of "fista" is then `R^2/(2 A)`, `sqrt A >= sum 1/(2 sqrt L_i)`, for the model
        `fun(y) + <g, z - y> + L/2 |z - y|^2 + h(z)` of `F(x)` by which L was found.
    strong_convexity : float, optional
        `m` with `fun - m/2 |x|^2` convex, 0 < m <= L.  Only for what is known: with a value above the true one there
        is no guarantee.
    restart : {"gradient", "function", None}
        Where t_k goes back to 1 (adaptive restart): when the step points uphill, `<y - z, z - x> > 0`; or when F
        rises; or never.
    prox : None, "l1", "box", "nonneg" or function
        `h`: none; `sum_i w_i |x_i|` with `options={"l1": w}`, a number or n of them; bounds with
        `options={"bounds": ...}` in SciPy's forms; `x >= 0`; or a function `prox(x, step)` that returns
        `argmin_u h(u) + |u - x|^2/(2 step)`, with `options={"penalty": h}` where values of F are needed.  With "box"
        and "nonneg", `fun` and `jac` are never called outside the bounds.
    tol : float
        Stop where `max |g_i| <= tol`; with a prox, where `max |y - z|_i / s <= tol`.
    maxiter : int
        Iterations at most, >= 0.
    callback : function, optional
        `callback(x)` or `callback(intermediate_result)` (by the name of its parameter), after each iteration, with a
        copy of x.  It ends the run by raising `StopIteration` or by returning True.
    options : dict, optional
        By name:

        - `ftol`: stop after 10 iterations in a row in which the least F fell by at most `ftol max(1, |F|)`; 0: never.
        - `maxtime`: seconds; the iteration that is running is finished.
        - `monotone`: True: F never rises from one x to the next (MFISTA), at one value of F for each iteration.
        - `momentum`: beta itself, a constant in [0, 1), for "nag" and "momentum".
        - `L0`: where backtracking starts; by default a curvature seen near x0, which is never above the true L.
        - `noise`: of values of `fun`, relative: where they differ by less, gradients are compared to find L; 1e-6,
          which is enough for sums in float32.
        - `l1`, `bounds`, `penalty`: see `prox`.
        - `disp`: True: print the message at the end.

    Returns
    -------
    scipy.optimize.OptimizeResult
        x, fun (F there), jac (the gradient of `fun` there), nit, nfev, njev, success, message, L (as found), restarts,
        and status: 0 the gradient is below tol, 1 `ftol`, 2 `maxiter`, 3 `maxtime`, 99 the callback, 5 not finite at
        the start, 6 not finite later, 7 no L fits, 8 it ended above the start, 10 steps are lost in rounding errors.
        Success is 0 or 1.  F(x) is never above F(x0): where the end is, x is the best point that was seen.

    Raises
    ------
    TypeError, ValueError
        For unfit arguments, and for functions whose signature, values or shapes do not fit.

    Notes
    -----
    The compiled loop is made once for each set of functions and types of arguments, in some seconds, and kept in
    memory; numba cannot keep on disk what calls a user's functions.  Ctrl-C reaches it within 0.1 s, or one iteration.

    Inside an `@njit` function the same call compiles: functions, `jac=True`, `method`, `restart` and `prox` must be
    constants there, `callback` and `options` are left out, and a named tuple is returned (x, fun, jac, nit, nfev, njev,
    status, success).  It runs to its end: Ctrl-C waits.

    On a CUDA device, compiled functions make no arrays: `jac` is "inplace" or None there, and a `prox` of the user's
    writes to its x and returns it.  `args` are numbers and arrays on that device.  `x` and `jac` of the result stay
    there, the rest are numbers; `nfev` lacks the call that looks at the functions.  The first launch is 128 iterations,
    the next ones a tenth of a second each, or one iteration with a callback, which gets x in host memory; the state
    waits on the device, and Ctrl-C is heard in between.  Bits are the CPU's where `fun` has only
    `+ - * /`, comparisons, `abs` and `sqrt`: CUDA has an `exp`, `log`, `sin`, `**` of its own, a division by zero is
    an infinity or NaN, and `max` and `min` pass over NaN.  For more than one problem take `minimize_many`.

    References
    ----------
    Y. Nesterov, Introductory Lectures on Convex Optimization (2004); A. Beck, M. Teboulle, SIAM J. Imaging Sci. 2
    (2009); K. Scheinberg, D. Goldfarb, X. Bai, Found. Comput. Math. 14 (2014); B. O'Donoghue, E. Candes, Found. Comput.
    Math. 15 (2015).

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> scales = np.array([1.0, 10.0, 100.0])
    >>> def fun(x):
    ...     return 0.5 * np.sum(scales * (x - 1) ** 2)
    >>> result = nagd_numba.minimize(fun, np.zeros(3), jac=lambda x: scales * (x - 1))
    >>> result.success, result.x.round(4)
    (True, array([1., 1., 1.]))
    """
    began = time.perf_counter()
    if on_device(x0, fun):
        there = starts("x0", x0, ndim=1)
        tell = _teller(callback)
        observed = tell is not None and tell.values
        wanted = settings.choices(
            *(there.size, method, L, strong_convexity, restart, prox, tol, maxiter, options, observed)
        )
        result = solve_one(fun, there, settings.as_args(args), jac, wanted, tell, began)
        if wanted.disp:
            print(result.message)
        return result
    stays = array_backends.is_foreign(x0)
    x = array_backends.starting_point(x0) if stays else settings.starting_point("x0", x0)
    args = settings.as_args(args)
    tell = _teller(callback)
    wanted = settings.choices(
        len(x), method, L, strong_convexity, restart, prox, tol, maxiter, options, tell is not None and tell.values
    )
    if stays:
        first, second = (array_backends.like(x, values) for values in (wanted.first, wanted.second))
        wanted = dataclasses.replace(wanted, first=first, second=second)
    if prox in ("box", "nonneg"):
        if stays:
            array_backends.clip(x, 1.0, wanted.first, wanted.second)
        else:
            np.clip(x, wanted.first, wanted.second, out=x)
    if stays:
        functions = user_functions.beside(fun, jac, prox, wanted.penalty, x, args)
        made = array_backends.made(functions)
    else:
        functions = user_functions.adapted(fun, jac, prox, wanted.penalty, x, args)
        made = compiled(functions) if functions.jitted else interpreted(functions)
    result = _run(made, x, wanted, args, tell, began)
    result.nfev += 1  # to look at the functions
    result.njev += functions.form != DIFFERENCES
    if wanted.disp:
        print(result.message)
    return result


class _Teller:
    """The user's callback, in either of SciPy's forms."""

    def __init__(self, callback: Callable[..., Any]) -> None:
        self.callback = callback
        try:
            names = list(inspect.signature(callback).parameters)
        except (TypeError, ValueError):  # a built-in
            names = []
        self.values = "intermediate_result" in names

    def __call__(self, x: np.ndarray, total: float) -> bool:
        """Shall it end?"""
        try:
            if self.values:
                from scipy.optimize import OptimizeResult

                returned = self.callback(intermediate_result=OptimizeResult(x=array_backends.duplicate(x), fun=total))
            else:
                returned = self.callback(array_backends.duplicate(x))
            return isinstance(returned, bool | np.bool_) and bool(returned)
        except StopIteration:
            return True


def _teller(callback: Any) -> _Teller | None:
    if callback is None:
        return None
    if not callable(callback):
        raise TypeError(f"callback is {callback!r}; a function of x, or of intermediate_result, is needed")
    return _Teller(callback)


def _run(
    made: Loop, x: np.ndarray, wanted: settings.Choices, args: tuple[Any, ...], tell: _Teller | None, began: float
) -> Any:
    stays = array_backends.is_foreign(x)
    work = array_backends.vectors(x, algorithm.VECTORS) if stays else np.empty((algorithm.VECTORS, len(x)))
    numbers, counts = np.zeros(algorithm.NUMBERS), np.zeros(COUNTS, np.int64)
    fixed = wanted.settings, wanted.first, wanted.second
    status = made.start(x, work, numbers, counts, *fixed, 0, args)
    autotuner = Autotuner(("steps",), guess=CALL_SECONDS)
    while status == algorithm.RUNNING:
        _, steps = autotuner.next(2**62)
        if tell is not None:
            steps = 1
        left = wanted.maxtime - (time.perf_counter() - began)
        if left <= 0:
            status = algorithm.TIME
            break
        if left < CALL_SECONDS:
            steps = max(1, int(steps * left / CALL_SECONDS))
        before, start = int(counts[NIT]), time.perf_counter()
        status = made.advance(x, work, numbers, counts, *fixed, steps, args)
        autotuner.took("steps", steps, time.perf_counter() - start)
        if tell is not None and counts[NIT] > before and tell(x, float(numbers[algorithm.TOTAL])):
            status = algorithm.CALLBACK if status == algorithm.RUNNING else status
    status = made.conclude(x, work, numbers, counts, *fixed, status, args)
    return described(x, array_backends.duplicate(work[algorithm.G]), numbers, counts, status, wanted)
