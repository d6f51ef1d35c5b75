"""`scipy_method`: our methods behind `scipy.optimize.minimize`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from numba.extending import is_jitted

from .minimize import minimize
from .settings import OPTIONS

_OWN = ("L", "strong_convexity", "restart", "prox", "method", "tol", "maxiter")


def scipy_method(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    jac: Callable[..., Any] | bool | None = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    **options: Any,
) -> Any:
    """`nagd_numba.minimize` for `scipy.optimize.minimize(..., method=nagd_numba.scipy_method)`.

    Parameters
    ----------
    fun, x0, args, callback
        As for `scipy.optimize.minimize`, which passes them on; `x0` is not modified.
    jac : True, function, or None
        The gradient, as for `nagd_numba.minimize`; None (also what SciPy makes of "2-point" and "3-point") is central
        differences.
    bounds : optional
        In SciPy's forms; as `prox="box"`.
    hess, hessp : optional
        Ignored, with SciPy's warning.
    constraints : optional
        Refused.
    **options
        `tol`, and everything that `nagd_numba.minimize` takes: L, strong_convexity, restart, prox, method, maxiter, and
        the names in its own options.  Unknown ones are left out, with SciPy's warning.

    Returns
    -------
    scipy.optimize.OptimizeResult, of `nagd_numba.minimize`

    Raises
    ------
    TypeError, ValueError
        As `nagd_numba.minimize`, and for constraints.

    Examples
    --------
    >>> import numpy as np, scipy.optimize
    >>> import nagd_numba
    >>> found = scipy.optimize.minimize(
    ...     lambda x: np.sum((x - 3) ** 2), np.zeros(2), method=nagd_numba.scipy_method, bounds=[(0, 1), (0, 5)]
    ... )
    >>> found.x.round(4)
    array([1., 3.])
    """
    from scipy.optimize import OptimizeWarning

    if not _empty(constraints):
        raise ValueError("constraints are not supported by nagd_numba.scipy_method; bounds are")
    if hess is not None or hessp is not None:
        warnings.warn("Method nagd_numba does not use Hessian information (hess).", RuntimeWarning, stacklevel=2)
    unknown = [name for name in options if name not in (*_OWN, *OPTIONS)]
    if unknown:
        warnings.warn(f"Unknown solver options: {', '.join(unknown)}", OptimizeWarning, stacklevel=2)
    own = {name: options[name] for name in _OWN if options.get(name) is not None or name == "restart" in options}
    inner = {name: options[name] for name in OPTIONS if options.get(name) is not None}
    if bounds is not None:
        if own.get("prox", "box") != "box" or "bounds" in inner:
            raise ValueError("bounds are a prox of their own: leave the options 'prox' and 'bounds' out")
        own["prox"], inner["bounds"] = "box", bounds
    # SciPy splits a function that returns both with an object that remembers the last x; the loop can call it whole.
    whole: Any = getattr(fun, "fun", None)
    if is_jitted(whole) and getattr(jac, "__self__", None) is fun:
        fun, jac = whole, True
    return minimize(fun, x0, args, jac, callback=callback, options=inner, **own)


def _empty(constraints: Any) -> bool:
    return constraints is None or (isinstance(constraints, tuple | list) and len(constraints) == 0)
