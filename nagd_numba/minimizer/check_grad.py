"""`check_grad`: a gradient against derivatives of its function."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..validation import prefixed
from . import settings, user_functions
from .differences import Difference, Differences

IMAGINARY = 1e-200  # the complex step: so small that nothing of it is left in the real part
AGREE = 1e-5  # relative
ROUNDINGS = 32.0  # of a gradient, in units of the rounding of its dtype


@dataclass(frozen=True)
class GradientCheck:
    """How far a gradient is from the derivatives of its function.

    error          the worst `|g_i - d_i| / (max(|g_i|, |d_i|) + u_i / 1e-5)`; infinite where one is not finite
    worst          the index of that component
    analytic       `g` there, as `jac` says
    numerical      `d` there
    uncertainty    `u` there: how far apart they may be though `jac` is right
    method         "complex step" or "central differences"
    gradient       all of `d`
    uncertainties  all of `u`

    True as a truth value if `error` is at most 1e-5, which is `|g_i - d_i| <= 1e-5 max(|g_i|, |d_i|) + u_i` for all
    components; `float(check)` is `error`.
    """

    error: float
    worst: int
    analytic: float
    numerical: float
    uncertainty: float
    method: str
    gradient: np.ndarray
    uncertainties: np.ndarray

    def __bool__(self) -> bool:
        return self.error <= AGREE

    def __float__(self) -> float:
        return self.error

    def __str__(self) -> str:
        told = self.uncertainty <= AGREE * max(abs(self.analytic), abs(self.numerical))
        known = "" if told else f", known to within {self.uncertainty:.1e}"
        verdict = "agrees with" if self else "DISAGREES with"
        return (
            f"jac {verdict} fun: the worst component is x[{self.worst}], where jac says {self.analytic:.10g} "
            f"and the {self.method} {self.numerical:.10g}{known} (error {self.error:.1e})"
        )


@prefixed("check_grad")
def check_grad(
    fun: Callable[..., Any], jac: Callable[..., Any] | bool, x: Any, args: Any = (), method: str | None = None
) -> GradientCheck:
    """Compare a gradient `g` with derivatives `d` of its function, component by component.

    They agree where `|g_i - d_i| <= 1e-5 max(|g_i|, |d_i|) + u_i`, `u_i` being what may be between them though `g` is
    right.  The derivatives are:

    - by the complex step, `d_i = Im fun(x + i h e_i) / h`, which is exact to rounding, where `fun` takes complex
      numbers and is the same analytic function there: seen by comparing it with differences, within their error,
      since functions like `abs` and `max` take complex numbers and give wrong derivatives;
    - else by differences, `d_i = (4 D(h) - D(2h)) / 3` of central differences `D` with two steps, whose error is taken
      to be `u_i = |D(2h) - D(h)| + 4 e / h`, `e` being the rounding and noise of a value of `fun`, both estimated from
      its values.  The step is the one with the least `u_i`.

    To either `u_i` is added what rounding does to `g`: `32 eps (max_j |d_j| + sqrt(c_i) max_j sqrt(c_j) |x_j|)` with
    the second derivatives `c_i`, and `eps` of the dtype of `g`.

    Where `u_i` is larger than `g_i` they agree only as far as can be told, for example `1e9 + 1e-7 |x|^2`; printed, the
    result says to how much the derivative is known where that is more than 1e-5 of it.

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
        None: as above; "complex": not compared with differences.

    Returns
    -------
    GradientCheck
        Which names the worst component when printed, and is true if they agree.

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

    returned = np.asarray(functions.fun(point, *args)[1] if jac is True else functions.jac(point, *args))
    analytic = np.array(returned, np.float64)
    rounding = float(np.finfo(returned.dtype if returned.dtype.kind == "f" else np.float64).eps)
    exact = None if method == "central" else _complex_step(fun, jac, point, args)
    if exact is None and method == "complex":
        raise TypeError("fun does not take complex numbers, or returns real ones: method='central' is left")
    compared = [analytic] if exact is None else [analytic, exact]
    central = _central(Differences(value, point), compared)
    slopes, errors, curvatures, _ = np.array(central).T
    numerical, name = slopes, "central differences"
    if exact is not None and (method == "complex" or (_errors(exact, slopes, errors) <= AGREE).all()):
        numerical, name, errors = exact, "complex step", np.zeros(point.size)
    uncertainties = errors + ROUNDINGS * rounding * _scales(numerical, np.sqrt(curvatures), point)
    found = _errors(analytic, numerical, uncertainties)
    worst = int(found.argmax())
    at_worst = float(analytic[worst]), float(numerical[worst]), float(uncertainties[worst])
    return GradientCheck(float(found[worst]), worst, *at_worst, name, numerical, uncertainties)


def _central(differences: Differences, compared: list[np.ndarray]) -> list[Difference]:
    """The derivatives by differences, most exactly where something that is compared is outside their error."""

    def one(i: int) -> Difference:
        def enough(slope: float, error: float) -> bool:
            near = (abs(x[i] - slope) <= error + AGREE * max(abs(x[i]), abs(slope)) for x in compared)
            return error <= AGREE * abs(slope) and all(near)

        return differences.component(i, enough)

    return [one(i) for i in range(compared[0].size)]


def _scales(d: np.ndarray, roots: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of the terms that a gradient is a sum of: itself, and by how much it changes with `x`."""
    largest = np.abs(d[np.isfinite(d)]).max(initial=0.0)
    return np.asarray(largest + roots * (roots * np.abs(x)).max())


def _errors(a: np.ndarray, b: np.ndarray, uncertainties: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        apart = np.abs(a - b)
        errors = apart / (np.maximum(np.abs(a), np.abs(b)) + uncertainties / AGREE)
    return np.where(np.isfinite(apart), np.where(apart == 0.0, 0.0, errors), np.inf)


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
