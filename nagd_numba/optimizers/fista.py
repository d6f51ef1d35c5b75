r"""FISTA: the accelerated proximal gradient method, for a smooth function plus a simple one.

With the gradient `g` of the smooth part at the extrapolated point `y` (the parameters), the iterate `x`, and `t_k`:

    x' <- prox(y - lr g)
    y  <- x' + (t_k - 1)/t_{k+1} (x' - x)           t_1 = 1,    t_{k+1} = (1 + sqrt(1 + 4 t_k^2))/2
    x  <- x'

======== ================================== =================================================================
prox     of                                 is
======== ================================== =================================================================
none     0                                  `x`
l1       `lr weight |x|`                    0 where `|x| <= lr weight`, else `x`, nearer to 0 by `lr weight`
nonneg   0 where `x >= 0`, else infinity    `max(x, 0)`
======== ================================== =================================================================

Without a prox, at constant `lr`, this is `nesterov` with the two momenta of `t_k`.  It keeps the iterate and not a
velocity, so that the zeros that a prox makes are zeros of `x`, and a change of `lr` (backtracking) needs no correction.

Every rounding is named: `x' = prox(fma(-lr, g, y))`, `y = fma(beta, rnd(x' - x), x')`.

References: A. Beck and M. Teboulle, SIAM J. Imaging Sci. 2 (2009) 183; Y. Nesterov, Soviet Math. Dokl. 27 (1983) 372.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from ..kernels.jit import in_both, inlined
from ..kernels.proximal import not_below, soft_threshold
from ..kernels.rounding import add, div, fma, mul, sqrt
from ..kernels.rule import Range, Rule
from ..kernels.template import template
from ._dispatch import python_step
from ._overload import in_compiled_code
from .arrays import Arrays, Constants, Params, Scalar, State
from .average import Average
from .composed_arguments import Composition
from .guard import Guard
from .optimizer import Optimizer
from .storage import StochasticRounding

Prox = Literal["none", "l1", "nonneg"]
PROXES = get_args(Prox)
NONE, L1, NONNEGATIVE = range(3)


@inlined
def fista_update(
    p: Scalar, g: Scalar, x: Scalar, lr: float, beta: float, threshold: float = 0.0, prox: int = NONE
) -> tuple[Scalar, Scalar]:
    """One element of FISTA: returns the new extrapolated point and the new iterate, `(p, x)`.

        x' = prox(p - lr g);    p = x' + beta (x' - x)

    For use inside `@njit` and `@cuda.jit` functions, in host or device memory; nothing is written.

    Parameters
    ----------
    p, g, x : float32 or float64
        The extrapolated point, its gradient, the iterate: scalars of one type.
    lr, beta : float
        The step size, and `(t - 1)/fista_t(t)`; cast to that type.
    threshold : float
        By how much `prox=1` moves towards 0: `lr` times the weight of the L1 norm.
    prox : {0, 1, 2}
        A constant: 0 for none, 1 for the L1 norm, 2 for numbers >= 0.

    Returns
    -------
    (p, x), new.

    Raises
    ------
    numba.core.errors.TypingError
        When it is compiled, for scalars that are not of one floating type.

    References
    ----------
    A. Beck and M. Teboulle, SIAM J. Imaging Sci. 2 (2009) 183.

    Examples
    --------
    >>> from nagd_numba import fista_t
    >>> y, x, t = 0.0, 0.0, 1.0
    >>> for _ in range(100):  # the minimum of (x - 3)^2/2 + |x|
    ...     y, x = fista_update(y, y - 3.0, x, 0.5, (t - 1) / fista_t(t), 0.5, 1)
    ...     t = fista_t(t)
    >>> round(x, 6)
    2.0
    """
    T = type(p)
    new = _mapped(p, g, T(lr), T(threshold), prox)
    return fma(T(beta), add(new, -x), new), new


@inlined
def _mapped(p: Scalar, g: Scalar, lr: Scalar, threshold: Scalar, prox: int) -> Scalar:
    """The iterate behind its own proximal map."""
    new: Scalar = fma(-lr, g, p)
    if prox == L1:
        new = soft_threshold(new, threshold)
    elif prox == NONNEGATIVE:
        new = not_below(new, type(p)(0))
    return new


@inlined
def next_t(t: float) -> float:
    """`t_{k+1}`."""
    following: float = mul(0.5, 1.0 + sqrt(1.0 + mul(mul(4.0, t), t)))
    return following


@inlined
def _constants(hyper: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    lr, weight, t = hyper
    return T(lr), T(div(t - 1.0, next_t(t))), T(mul(lr, weight))


@inlined
def _update(
    p: Scalar, g: Scalar, state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]
) -> tuple[Scalar, tuple[Scalar, ...]]:
    (prox,) = options
    lr, beta, threshold = constants
    p, x = fista_update(p, g, state[0], lr, beta, threshold, prox)
    return p, (x,)


@template
def _proximal(prox: Callable[..., Any], keep: Callable[..., Any]) -> Any:
    def proximal(p: Any, g: Any, state: Any, constants: Any, options: Any, values: Any) -> Any:
        """`_update` with bounds: the iterate goes to the nearest point in them, and so does the extrapolated one."""
        lr, beta, threshold = constants
        new = prox(_mapped(p, g, lr, threshold, options[0]), values)
        return keep(fma(beta, add(new, -state[0]), new), values), (new,)

    return proximal


RULE = Rule(
    name="fista",
    update=_update,
    constants=_constants,
    states=("iterate",),
    hyper={"lr": 0.01, "weight": 0.0, "t": 2.0},
    options={"prox": (NONE, L1, NONNEGATIVE)},
    ranges={"t": Range(low=1.0, below=2.0**53)},
    elementwise=("lr", "weight"),
    proximal=_proximal,
)


def fista_step(
    params: Params,
    grads: Arrays,
    iterate: State,
    t: float,
    lr: float = 0.01,
    prox: Prox = "none",
    weight: float = 0.0,
    stream: Any = None,
    master: Arrays | None = None,
    guard: Guard | None = None,
    rounding: StochasticRounding | None = None,
    compensation: Arrays | None = None,
    mask: Any = None,
    lower: Any = None,
    upper: Any = None,
    average: Average | tuple[Any, float] | None = None,
    groups: Any = None,
) -> Params:
    """One step of FISTA, in place.

    With the gradient `g` of the smooth part at the extrapolated point `y`, and the iterate `x`:

        x' <- prox(y - lr g);    y <- x' + (t - 1)/fista_t(t) (x' - x);    x <- x'

    Parameters
    ----------
    params : array
        The extrapolated point `y`, where the gradient is taken; float32 or float64, any shape; modified in place.
        Every kind of array and place that `nagd_numba.step` takes, and lists of arrays.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    iterate : array
        The iterate `x`: the same again, a copy of `params` before the first step; modified in place.  It is the
        solution in the end, with the exact zeros that a prox makes.
    t : float
        `t_k`, >= 1: 1 in the first step, then `t = nagd_numba.fista_t(t)`, which is `(1 + sqrt(1 + 4 t^2))/2`.  To
        restart, set it to 1 and `params` to `iterate`.
    lr : float
        Step size, finite, >= 0: at most `1/L` for a gradient with the Lipschitz constant `L`.
    prox : {"none", "l1", "nonneg"}
        Of the other part: nothing; `weight |x|_1`; the numbers >= 0.
    weight : float
        Of the L1 norm, finite, >= 0.
    stream, master, guard, rounding, compensation : optional
        As for `nagd_numba.step`.
    mask, lower, upper, average, groups : optional
        As for `nagd_numba.step`; bounds are applied after `prox`.

    Returns
    -------
    params, the same object.

    Raises
    ------
    TypeError, ValueError
        For unfit arrays or values, before anything is written.
    RuntimeError
        For device arrays where CUDA cannot be used.

    Notes
    -----
    With `lr <= 1/L` the objective after `k` steps is at most `2 |x_0 - x*|^2 / (lr (k+1)^2)` above its minimum.  Inside
    `@njit` functions and in `prange` as `nagd_numba.step`, with `prox` a constant; inside a `@cuda.jit` kernel use
    `nagd_numba.fista_update` on scalars.

    References
    ----------
    A. Beck and M. Teboulle, SIAM J. Imaging Sci. 2 (2009) 183.

    Examples
    --------
    The minimum of `(x - b)^2/2 + |x|`, elementwise, is `b` moved towards 0 by 1:

    >>> import numpy as np
    >>> import nagd_numba
    >>> b = np.array([3.0, 0.5, -2.0])
    >>> y, t = np.zeros(3), 1.0
    >>> x = y.copy()
    >>> for _ in range(100):
    ...     _ = nagd_numba.fista_step(y, y - b, x, t, lr=0.5, prox="l1", weight=1.0)
    ...     t = nagd_numba.fista_t(t)
    >>> x.round(6)
    array([ 2.,  0., -1.])
    """
    plain = mask is lower is upper is average is groups is None
    composition = None if plain else Composition(mask, lower, upper, average=average, groups=groups)
    _python_step(
        params, grads, (iterate,), (lr, weight, t), (prox,), stream, master, guard, rounding, compensation, composition
    )
    return params


@in_both
def fista_t(t: float) -> float:
    """The next `t` of FISTA; in `@njit` functions too.

        t_{k+1} = (1 + sqrt(1 + 4 t_k^2))/2

    Parameters
    ----------
    t : float
        `t_k`, >= 1; not checked, so that nothing is raised.

    Returns
    -------
    float

    Examples
    --------
    >>> fista_t(1.0)
    1.618033988749895
    """
    following: float = next_t(1.0 * t)
    return following


OPTIMIZER = Optimizer(RULE, fista_step, fista_update, choices={"prox": PROXES})
_python_step = python_step(OPTIMIZER)
in_compiled_code(OPTIMIZER)
