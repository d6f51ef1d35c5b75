r"""Schedule-free AdamW: RMSprop with a corrected average of squares, whose weighted average is formed as it goes.

With the gradient `g` at the parameters `y`, the weight decay `w`, and `lr_t`, `c_t` of `schedule_free.py`:

    v <- beta2 v + (1 - beta2) g^2
    d <- g / (sqrt(v/(1 - beta2^t)) + eps) + w y
    y <- y + c_t (z - y) + lr_t (beta1 (1 - c_t) - 1) d
    z <- z - lr_t d

What is evaluated is `x = y + (1 - 1/beta1) (z - y)`, the weighted average of the `z`; there is no average of gradients.

Roundings are those of `schedule_free.py`, and

    v = fma(rnd((1 - beta2) g), g, rnd(beta2 v))
    d = fma(w, y, rnd(g / rnd(rnd(sqrt(rnd(v / (1 - beta2^t)))) + eps)))

so that the moments are those of the reference to the last bit, from equal ones; its square root is not always the
rounded one (`adam.py`).

Reference: A. Defazio et al., The road less scheduled, NeurIPS 2024, arXiv:2405.15682.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..kernels.jit import inlined, layer
from ..kernels.power import whole_power
from ..kernels.rounding import add, div, fma, mul, sqrt
from ..kernels.rule import Range, Rule
from ..kernels.template import template
from ._dispatch import python_step, rule_constants, step_number
from ._overload import in_compiled_code
from .arrays import Arrays, Constants, Params, Scalar, State
from .average import Average
from .composed_arguments import Composition
from .guard import Guard
from .optimizer import Method, Optimizer
from .schedule_free import MOMENTUM, RANGES, advance, along, begun, mapped_advance, warmup_number, warmup_part, weights
from .storage import StochasticRounding


@inlined
def schedule_free_adamw_update(
    p: Scalar, g: Scalar, z: Scalar, v: Scalar, constants: Constants
) -> tuple[Scalar, Scalar, Scalar]:
    """One element of schedule-free AdamW: returns the new `(p, z, v)`.

        v = beta2 v + (1 - beta2) g^2;    d = g / (sqrt(v/(1 - beta2^t)) + eps) + w p
        p = p + c (z - p) + lr (beta1 (1 - c) - 1) d;    z = z - lr d

    For use inside `@njit` and `@cuda.jit` functions, in host or device memory; nothing is written.

    Parameters
    ----------
    p, g, z, v : float32 or float64
        The parameter, its gradient, the point of descent, the average of the squares: scalars of one type.
    constants : tuple
        What `schedule_free_adamw_constants` makes of the hyper-parameters, once a step.

    Returns
    -------
    (p, z, v), new.

    Raises
    ------
    numba.core.errors.TypingError
        When it is compiled, for scalars that are not of one floating type.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> constants = nagd_numba.schedule_free_adamw_constants(np.float64, t=1, lr=0.5, beta1=0.5)
    >>> p, z, v = schedule_free_adamw_update(1.0, 4.0, 0.0, 0.0, constants)  # in the first step z is p
    >>> round(p, 6), round(z, 6), round(v, 6)
    (0.5, 0.5, 0.016)
    """
    lr, weight, moved = constants[0], constants[1], constants[2]
    d, v = _direction(p, g, v, constants)
    p, z = advance(p, begun(p, z, weight), d, lr, weight, moved)
    return p, z, v


@inlined
def _direction(p: Scalar, g: Scalar, v: Scalar, constants: Constants) -> tuple[Scalar, Scalar]:
    """`d`, and the average of squares with this one."""
    weight_decay, beta2, square_weight, correction, eps = constants[3:]
    v = fma(mul(square_weight, g), g, mul(beta2, v))
    d = div(g, add(sqrt(div(v, correction)), eps))
    return fma(weight_decay, p, d) if weight_decay != 0 else d, v


@inlined
def _once(hyper: tuple[float, ...], options: tuple[Any, ...]) -> tuple[float, float, float]:
    """What is the same for all elements: as in `schedule_free_sgd`, and the sum of the weights of squares."""
    weight, part = weights(hyper[8], hyper[5], hyper[6], hyper[7])
    return weight, part, 1.0 - whole_power(hyper[2], hyper[8])


@inlined
def _then(hyper: tuple[float, ...], made: tuple[float, float, float], T: Any, options: tuple[Any, ...]) -> Constants:
    weight, part, correction = made
    lr, beta2 = mul(hyper[0], part), hyper[2]
    moved = along(lr, hyper[1], weight)
    return T(lr), T(weight), T(moved), T(hyper[4]), T(beta2), T(1.0 - beta2), T(correction), T(hyper[3])


@inlined
def _constants(hyper: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    return _then(hyper, _once(hyper, options), T, options)


@inlined
def _rate(hyper: tuple[float, ...]) -> float:
    rate: float = mul(hyper[0], warmup_part(hyper[8], hyper[5]))
    return rate


@inlined
def _update(
    p: Scalar, g: Scalar, state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]
) -> tuple[Scalar, tuple[Scalar, ...]]:
    (maximize,) = options
    z, v = state
    p, z, v = schedule_free_adamw_update(p, -g if maximize else g, z, v, constants)
    return p, (z, v)


@template
def _proximal(prox: Callable[..., Any], keep: Callable[..., Any]) -> Any:
    advanced = layer(mapped_advance.bind(prox=prox, keep=keep))

    def proximal(p: Any, g: Any, state: Any, constants: Any, options: Any, values: Any) -> Any:
        """`_update` whose `z` goes through a map."""
        lr, weight, moved = constants[0], constants[1], constants[2]
        d, v = _direction(p, -g if options[0] else g, state[1], constants)
        p, z = advanced(p, begun(p, state[0], weight), d, lr, weight, moved, values)
        return p, (z, v)

    return proximal


RULE = Rule(
    name="schedule_free_adamw",
    update=_update,
    constants=_constants,
    states=("z", "v"),
    hyper={
        "lr": 0.0025,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
        "warmup_steps": 0.0,
        "r": 0.0,
        "weight_lr_power": 2.0,
        "t": 1.0,
    },
    options={"maximize": (False, True)},
    ranges={**RANGES, "beta1": MOMENTUM, "beta2": Range(below=1.0)},
    nonnegative=("v",),
    split=(_once, _then),
    proximal=_proximal,
    rate=_rate,
    interpolated=("z", "beta1"),
)


def schedule_free_adamw_step(
    params: Params,
    grads: Arrays,
    z: State,
    v: State,
    t: int,
    lr: float = 0.0025,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    maximize: bool = False,
    stream: Any = None,
    master: Arrays | None = None,
    guard: Guard | None = None,
    rounding: StochasticRounding | None = None,
    compensation: Arrays | None = None,
    mask: Any = None,
    lower: Any = None,
    upper: Any = None,
    prox: Any = None,
    prox_weight: float | None = None,
    average: Average | None = None,
    groups: Any = None,
) -> Params:
    """One step of schedule-free AdamW, in place: steps scaled as Adam's, that need no schedule of their rate.

    With the gradient `g` at the parameters `y`, and `c_t` the weight of step `t` in the average, `1/t` where all weigh
    the same:

        v <- beta2 v + (1 - beta2) g^2;    d = g / (sqrt(v/(1 - beta2^t)) + eps) + weight_decay y
        y <- y + c_t (z - y) + lr_t (beta1 (1 - c_t) - 1) d;    z <- z - lr_t d

    Parameters
    ----------
    params : array
        The point `y`, where the gradient is taken; float32 or float64, any shape; modified in place.  Every kind of
        array and place that `nagd_numba.step` takes, and lists of arrays.  `schedule_free_eval` makes it `x`.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    z : array
        The point that is stepped: the same again; modified in place.  The first step makes it a copy of `params`,
        whatever it holds.
    v : array
        The average of the squares of the gradient: the same again, zeros before the first step; modified in place.
        None may share memory.  Beside float16 or bfloat16 parameters: float32.
    t : int
        The number of this step, from 1 on: 1 goes with a `v` that is zeros.
    lr : float
        Learning rate, finite, >= 0.
    beta1, beta2 : float
        `y = (1 - beta1) z + beta1 x`: how near to the average `x` the gradient is taken, from 0.001 to below 1, the
        same in all steps; what stays of the average of squares in a step, from 0 to below 1.
    eps : float
        Finite, >= 0; keeps the quotient small where `v` is.
    weight_decay : float
        Finite, >= 0: adds `weight_decay y` to the direction, not to the gradient.
    warmup_steps : int
        So many steps at first the rate grows linearly, `lr_t = lr min(t/warmup_steps, 1)`.
    r, weight_lr_power : float
        Step `j` has the weight `j^r min(j/warmup_steps, 1)^weight_lr_power` in the average; each from 0 to below 8.
    maximize : bool
        Ascend instead of descend.
    stream, master, guard, rounding, compensation : optional
        As for `nagd_numba.step`; `z` is a point, and 8 bits are too few for it.
    mask, lower, upper, prox, prox_weight, average, groups : optional
        As for `nagd_numba.step`, but for "scaled_l1"; bounds and maps are for `z`, with `lr_t`, and `y` is kept in the
        bounds.  Where elements are masked out in the first step `z` must be a copy of `params` before it.

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
    From equal arrays a step makes the `v` of `schedulefree.AdamWScheduleFree` on the CPU to the last bit, and its
    points but for neighbours where its square root is not the rounded one, and but for the roundings of its sum of
    weights (`nagd_numba.optimizers.schedule_free`).  Inside `@njit` functions and in `prange` as `nagd_numba.step`;
    inside a `@cuda.jit` kernel use `nagd_numba.schedule_free_adamw_update` on scalars.

    References
    ----------
    A. Defazio et al., The road less scheduled, NeurIPS 2024, arXiv:2405.15682.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> target = np.array([3.0, -1.0])
    >>> params, z, v = np.zeros(2), np.zeros(2), np.zeros(2)
    >>> for t in range(1, 1001):
    ...     grads = 2 * (params - target)
    ...     _ = nagd_numba.schedule_free_adamw_step(params, grads, z, v, t, lr=0.1)
    >>> nagd_numba.schedule_free_eval(params, z, momentum=0.9).round(2)
    array([ 3., -1.])
    """
    warmup, counted = (
        warmup_number(warmup_steps, "schedule_free_adamw_step"),
        step_number(t, "schedule_free_adamw_step"),
    )
    hyper = lr, beta1, beta2, eps, weight_decay, warmup, r, weight_lr_power, counted
    plain = mask is lower is upper is prox is prox_weight is groups is average is None
    composition = None if plain else Composition(mask, lower, upper, prox, prox_weight, average, groups)
    _python_step(params, grads, (z, v), hyper, (maximize,), stream, master, guard, rounding, compensation, composition)
    return params


def schedule_free_adamw_constants(
    dtype: Any,
    t: int,
    lr: float = 0.0025,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
) -> Constants:
    """What `schedule_free_adamw_update` needs of the hyper-parameters in step `t`: a tuple of scalars of `dtype`.

    From Python (for the arguments of a `@cuda.jit` kernel) and inside `@njit` functions, once a step.

    Parameters
    ----------
    dtype : numpy.float32 or numpy.float64
        The type of the scalars that are stepped.
    t : int
        The number of the step, from 1 on.
    lr, beta1, beta2, eps, weight_decay, warmup_steps, r, weight_lr_power : optional
        As for `schedule_free_adamw_step`, with the same defaults and ranges.

    Returns
    -------
    tuple of scalars of `dtype`

    Raises
    ------
    TypeError, ValueError
        For another dtype, and for numbers out of their range.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> constants = nagd_numba.schedule_free_adamw_constants(np.float64, t=1, lr=0.25)
    >>> p, z, v = nagd_numba.schedule_free_adamw_update(1.0, 0.0, 1.0, 0.0, constants)
    >>> p, z, v
    (1.0, 1.0, 0.0)
    """
    settings = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay, "t": t}
    of_weights = {"warmup_steps": warmup_steps, "r": r, "weight_lr_power": weight_lr_power}
    return rule_constants(OPTIMIZER, dtype, **settings, **of_weights)


OPTIMIZER = Optimizer(
    RULE,
    schedule_free_adamw_step,
    schedule_free_adamw_update,
    schedule_free_adamw_constants,
    methods=(Method("schedule_free_adamw", "Schedule-free AdamW", momentum="beta1"),),
)
_python_step = python_step(OPTIMIZER)
in_compiled_code(OPTIMIZER)
