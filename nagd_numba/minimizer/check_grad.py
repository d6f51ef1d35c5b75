"""`check_grad`: a gradient against derivatives of its function."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..validation import prefixed
from . import settings, user_functions
from .objective import DIFFERENCE

IMAGINARY = 1e-200  # the complex step: so small that nothing of it is left in the real part
AGREE = 1e-5  # relative: central differences of an exact function err by about 1e-10


@dataclass(frozen=True)
class GradientCheck:
    """How far a gradient is from the derivatives of its function.

    error       the worst `|g_i - d_i| / max(1, |g_i|, |d_i|)` over the components; infinite where one is not finite
    worst       the index of that component
    analytic    `g` there, as `jac` says
    numerical   `d` there
    method      "complex step" or "central differences"
    gradient    all of `d`

    True as a truth value if `error` is at most 1e-5; `float(check)` is `error`.
    """

    error: float
    worst: int
    analytic: float
    numerical: float
    method: str
    gradient: np.ndarray

    def __bool__(self) -> bool:
        return self.error <= AGREE

    def __float__(self) -> float:
        return self.error

    def __str__(self) -> str:
        verdict = "agrees with" if self else "DISAGREES with"
        return (
            f"jac {verdict} fun: the worst component is x[{self.worst}], where jac says {self.analytic:.10g} "
            f"and the {self.method} {self.numerical:.10g} (error {self.error:.1e})"
        )


@prefixed("check_grad")
def check_grad(
    fun: Callable[..., Any], jac: Callable[..., Any] | bool, x: Any, args: Any = (), method: str | None = None
) -> GradientCheck:
    """Compare a gradient with derivatives of its function, component by component.

    By the complex step, `d_i = Im fun(x + i h e_i) / h`, which is exact to rounding, where `fun` takes complex numbers
    and is the same analytic function there; else by central differences.  Whether it is, is seen by comparing the two:
    functions like `abs` and `max` take complex numbers and give wrong derivatives.

    Parameters
    ----------
    fun : function
        `fun(x, *args)`, a real number; `@njit` functions too.
    jac : True or function
        `jac(x, *args)`, or True if `fun` returns `(value, gradient)`.
    x : array of n numbers
        Where to compare; not modified.  A random point: at zeros and optima wrong gradients may be right.
    args : tuple
        Further arguments of both.
    method : {None, "complex", "central"}
        None: as above.

    Returns
    -------
    GradientCheck
        Which names the worst component when printed, and is true if they agree to 1e-5.

    Raises
    ------
    TypeError, ValueError
        For functions whose signature, values or shapes do not fit; for `method="complex"` where it cannot be.

    References
    ----------
    W. Squire, G. Trapp, SIAM Review 40 (1998) 110.

    Examples
    --------
    >>> import numpy as np
    >>> from nagd_numba import check_grad
    >>> def fun(x):
    ...     return np.sum(x**3)
    >>> print(check_grad(fun, lambda x: 3 * x**2, np.array([1.0, 2.0])))
    jac agrees with fun: the worst component is x[0], where jac says 3 and the complex step 3 (error 0.0e+00)
    >>> print(check_grad(fun, lambda x: np.array([3 * x[0] ** 2, x[1] ** 2]), np.array([1.0, 2.0])))
    jac DISAGREES with fun: the worst component is x[1], where jac says 4 and the complex step 12 (error 6.7e-01)
    """
    if method not in (None, "complex", "central"):
        raise ValueError(f"method is {method!r}; None, 'complex' or 'central' is needed")
    if jac is not True and not callable(jac):
        raise TypeError(f"jac is {jac!r}; True or a function jac(x, *args) is needed")
    point, args = settings.starting_point("x", x), settings.as_args(args)
    functions: Any = user_functions.adapted(fun, jac, None, None, point, args)

    def value(x: np.ndarray) -> Any:
        return functions.fun(x, *args)[0] if jac is True else functions.fun(x, *args)

    analytic = np.array(functions.fun(point, *args)[1] if jac is True else functions.jac(point, *args), np.float64)
    central = _central(value, point)
    numerical, name = central, "central differences"
    if method != "central":
        exact = _complex_step(fun, jac, point, args)
        if exact is None and method == "complex":
            raise TypeError("fun does not take complex numbers, or returns real ones: method='central' is left")
        if exact is not None and (method == "complex" or _errors(exact, central).max() <= AGREE):
            numerical, name = exact, "complex step"
    errors = _errors(analytic, numerical)
    worst = int(errors.argmax())
    return GradientCheck(float(errors[worst]), worst, float(analytic[worst]), float(numerical[worst]), name, numerical)


def _errors(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        errors = np.abs(a - b) / np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))
    return np.where(np.isfinite(errors), errors, np.inf)


def _central(value: Callable[..., Any], x: np.ndarray) -> np.ndarray:
    made = np.empty_like(x)
    for i in range(x.size):
        h = DIFFERENCE * max(1.0, abs(x[i]))
        above, below = x.copy(), x.copy()
        above[i] += h
        below[i] -= h
        made[i] = (value(above) - value(below)) / (above[i] - below[i])
    return made


def _complex_step(fun: Callable[..., Any], jac: Any, x: np.ndarray, args: tuple[Any, ...]) -> np.ndarray | None:
    """None where `fun` does not take complex numbers and return one."""
    made = np.empty_like(x)
    for i in range(x.size):
        moved = x.astype(complex)
        moved[i] += IMAGINARY * 1j
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                returned = fun(moved, *args)
            returned = np.asarray(returned[0] if jac is True else returned)
        except Exception:  # whatever a function does that was not made for complex numbers
            return None
        if returned.dtype.kind != "c" or returned.size != 1:
            return None
        made[i] = returned.reshape(()).imag / IMAGINARY
    return made
