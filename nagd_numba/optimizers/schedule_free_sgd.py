r"""Schedule-free SGD: gradient descent whose weighted average is formed in place of a schedule of the rate.

With the gradient `g` at the parameters `y`, plus `w y` where there is a weight decay `w`, and `lr_t`, `c_t` of
`schedule_free.py`:

    y <- y + c_t (z - y) + lr_t (beta (1 - c_t) - 1) g
    z <- z - lr_t g                                             beta is `momentum`

What is evaluated is `x = y + (1 - 1/beta) (z - y)`, the weighted average of the `z`.

Roundings are those of `schedule_free.py`, and `g = fma(w, y, g)`.

Reference: A. Defazio et al., The road less scheduled, NeurIPS 2024, arXiv:2405.15682.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..kernels.jit import inlined, layer
from ..kernels.rounding import fma, mul
from ..kernels.rule import Rule
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
def schedule_free_sgd_update(p: Scalar, g: Scalar, z: Scalar, constants: Constants) -> tuple[Scalar, Scalar]:
    """One element of schedule-free SGD: returns the new `(p, z)`.

        p = p + c (z - p) + lr (momentum (1 - c) - 1) g;    z = z - lr g

    For use inside `@njit` and `@cuda.jit` functions, in host or device memory; nothing is written.

    Parameters
    ----------
    p, g, z : float32 or float64
        The parameter, its gradient, the point of gradient descent: scalars of one type.
    constants : tuple
        What `schedule_free_sgd_constants` makes of the hyper-parameters, once a step.

    Returns
    -------
    (p, z), new.

    Raises
    ------
    numba.core.errors.TypingError
        When it is compiled, for scalars that are not of one floating type.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> p, z = 1.0, 0.0
    >>> constants = nagd_numba.schedule_free_sgd_constants(np.float64, t=1, lr=0.5, momentum=0.5)
    >>> schedule_free_sgd_update(p, 1.0, z, constants)  # in the first step z is p
    (0.5, 0.5)
    """
    lr, weight, moved, weight_decay = constants
    return advance(p, begun(p, z, weight), _decayed(p, g, weight_decay), lr, weight, moved)


@inlined
def _decayed(p: Scalar, g: Scalar, weight_decay: Scalar) -> Scalar:
    """The gradient with that of the L2 penalty."""
    return fma(weight_decay, p, g) if weight_decay != 0 else g


@inlined
def _once(hyper: tuple[float, ...], options: tuple[Any, ...]) -> tuple[float, float]:
    """What is the same for all elements: the weight of this step, and the part of the rate in the warmup."""
    return weights(hyper[6], hyper[3], hyper[4], hyper[5])


@inlined
def _then(hyper: tuple[float, ...], made: tuple[float, float], T: Any, options: tuple[Any, ...]) -> Constants:
    weight, part = made
    lr = mul(hyper[0], part)
    return T(lr), T(weight), T(along(lr, hyper[1], weight)), T(hyper[2])


@inlined
def _constants(hyper: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    return _then(hyper, _once(hyper, options), T, options)


@inlined
def _rate(hyper: tuple[float, ...]) -> float:
    rate: float = mul(hyper[0], warmup_part(hyper[6], hyper[3]))
    return rate


@inlined
def _update(
    p: Scalar, g: Scalar, state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]
) -> tuple[Scalar, tuple[Scalar, ...]]:
    (maximize,) = options
    p, z = schedule_free_sgd_update(p, -g if maximize else g, state[0], constants)
    return p, (z,)


@template
def _proximal(prox: Callable[..., Any], keep: Callable[..., Any]) -> Any:
    advanced = layer(mapped_advance.bind(prox=prox, keep=keep))

    def proximal(p: Any, g: Any, state: Any, constants: Any, options: Any, values: Any) -> Any:
        """`_update` whose `z` goes through a map."""
        lr, weight, moved, weight_decay = constants
        d = _decayed(p, -g if options[0] else g, weight_decay)
        p, z = advanced(p, begun(p, state[0], weight), d, lr, weight, moved, values)
        return p, (z,)

    return proximal


RULE = Rule(
    name="schedule_free_sgd",
    update=_update,
    constants=_constants,
    states=("z",),
    hyper={
        "lr": 1.0,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "warmup_steps": 0.0,
        "r": 0.0,
        "weight_lr_power": 2.0,
        "t": 1.0,
    },
    options={"maximize": (False, True)},
    ranges={**RANGES, "momentum": MOMENTUM},
    split=(_once, _then),
    proximal=_proximal,
    rate=_rate,
    interpolated=("z", "momentum"),
)


def schedule_free_sgd_step(
    params: Params,
    grads: Arrays,
    z: State,
    t: int,
    lr: float = 1.0,
    momentum: float = 0.9,
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
    """One step of schedule-free SGD, in place: gradient descent that needs no schedule of its rate.

    With the gradient `g` at the parameters `y`, plus `weight_decay y` where there is a weight decay, and `c_t` the
    weight of step `t` in the average, `1/t` where all weigh the same:

        y <- y + c_t (z - y) + lr_t (momentum (1 - c_t) - 1) g
        z <- z - lr_t g

    Parameters
    ----------
    params : array
        The point `y`, where the gradient is taken; float32 or float64, any shape; modified in place.  Every kind of
        array and place that `nagd_numba.step` takes, and lists of arrays.  `schedule_free_eval` makes it `x`.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    z : array
        The point of gradient descent: the same again; modified in place.  The first step makes it a copy of `params`,
        whatever it holds.  None may share memory.
    t : int
        The number of this step, from 1 on.
    lr : float
        Learning rate, finite, >= 0; larger ones than for `nagd_numba.step` are usual.
    momentum : float
        `y = (1 - momentum) z + momentum x`: how near to the average `x` the gradient is taken, from 0.001 to below 1;
        the same in all steps.
    weight_decay : float
        Finite, >= 0: adds `weight_decay y` to the gradient.
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
    The bits are those of `schedulefree.SGDScheduleFree` on the CPU where its sum of weights is exact; elsewhere its sum
    has roundings of its own, which grow with `t` (`nagd_numba.optimizers.schedule_free`).  Inside `@njit` functions and
    in `prange` as `nagd_numba.step`; inside a `@cuda.jit` kernel use `nagd_numba.schedule_free_sgd_update` on scalars.

    References
    ----------
    A. Defazio et al., The road less scheduled, NeurIPS 2024, arXiv:2405.15682.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> target = np.array([3.0, -1.0])
    >>> params, z = np.zeros(2), np.zeros(2)
    >>> for t in range(1, 501):
    ...     grads = params - target
    ...     _ = nagd_numba.schedule_free_sgd_step(params, grads, z, t, lr=0.5)
    >>> nagd_numba.schedule_free_eval(params, z).round(2)
    array([ 3., -1.])
    """
    warmup, counted = warmup_number(warmup_steps, "schedule_free_sgd_step"), step_number(t, "schedule_free_sgd_step")
    hyper = lr, momentum, weight_decay, warmup, r, weight_lr_power, counted
    plain = mask is lower is upper is prox is prox_weight is groups is average is None
    composition = None if plain else Composition(mask, lower, upper, prox, prox_weight, average, groups)
    _python_step(params, grads, (z,), hyper, (maximize,), stream, master, guard, rounding, compensation, composition)
    return params


def schedule_free_sgd_constants(
    dtype: Any,
    t: int,
    lr: float = 1.0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    warmup_steps: int = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
) -> Constants:
    """What `schedule_free_sgd_update` needs of the hyper-parameters in step `t`: a tuple of scalars of `dtype`.

    From Python (for the arguments of a `@cuda.jit` kernel) and inside `@njit` functions, once a step.

    Parameters
    ----------
    dtype : numpy.float32 or numpy.float64
        The type of the scalars that are stepped.
    t : int
        The number of the step, from 1 on.
    lr, momentum, weight_decay, warmup_steps, r, weight_lr_power : optional
        As for `schedule_free_sgd_step`, with the same defaults and ranges.

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
    >>> constants = nagd_numba.schedule_free_sgd_constants(np.float64, t=1, lr=0.25)
    >>> nagd_numba.schedule_free_sgd_update(1.0, 2.0, 1.0, constants)
    (0.5, 0.5)
    """
    settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "warmup_steps": warmup_steps}
    return rule_constants(OPTIMIZER, dtype, **settings, r=r, weight_lr_power=weight_lr_power, t=t)


OPTIMIZER = Optimizer(
    RULE,
    schedule_free_sgd_step,
    schedule_free_sgd_update,
    schedule_free_sgd_constants,
    methods=(Method("schedule_free_sgd", "Schedule-free SGD", momentum="momentum", lr="lr"),),
)
_python_step = python_step(OPTIMIZER)
in_compiled_code(OPTIMIZER)
