r"""What the schedule-free methods have in common: three sequences of points in place of a schedule of the rate.

    y = (1 - beta) z + beta x               where the gradient is taken: the parameters
    z <- z - lr_t d                         a step of the method that is made schedule-free, along d
    x <- (1 - c_t) x + c_t z                what is evaluated in the end: a weighted average of the z

`x` is not kept: with `y` and `z` it is `x = y + (1 - 1/beta) (z - y)`, and in their terms the step is

    y <- y + c_t (z - y) + lr_t (beta (1 - c_t) - 1) d

The rate grows linearly in the first `W = warmup_steps` steps, and the weights of the average in step `j` are
`j^r max(lr_1, ..., lr_j)^q` with `q = weight_lr_power`:

    lr_t = lr min(t/W, 1)           c_t = w_t / (w_1 + ... + w_t)           w_j = j^r min(j/W, 1)^q

These are functions of `t`: the reference carries the sum of the weights, which here is made anew in each step
(`kernels.power_sums`).  They are those of a rate that is constant or falls behind its warmup, since the maximum is then
that of the warmup; a rate that grows otherwise has other weights in the reference.

Every rounding is named: with `lerp(a, b, w) = fma(w, rnd(b - a), a)` for `|w| < 1/2`, else `fma(w - 1, rnd(b - a), b)`,
which is that of PyTorch, `y = fma(lr_t (beta (1 - c_t) - 1), d, lerp(y, z, c_t))` and `z = fma(-lr_t, d, z)`.

Reference: A. Defazio, X. Yang, H. Mehta, K. Mishchenko, A. Khaled, A. Cutkosky, The road less scheduled, NeurIPS 2024,
arXiv:2405.15682; its roundings are those of the package `schedulefree` 1.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import validation
from ..flat import FlatParams
from ..kernels.jit import inlined
from ..kernels.power_sums import relative_sum
from ..kernels.rounding import add, div, fma, mul
from ..kernels.rule import Range, Rule
from ..kernels.template import template
from ._dispatch import update
from .arrays import Arrays, Constants, Params, Scalar

# `x` is read from `y` with an error of 1/beta units in the last place, so that beta must not be 0.
MOMENTUM = Range(low=0.001, below=1.0)
RANGES = {
    "t": Range(low=1.0, below=2.0**53, whole=True),
    "warmup_steps": Range(below=2.0**53, whole=True),
    "r": Range(below=8.0),
    "weight_lr_power": Range(below=8.0),
}


@inlined
def lerp(start: Scalar, end: Scalar, weight: Scalar) -> Scalar:
    """`start + weight (end - start)`, from the nearer end; exact for weights of 0 and 1."""
    T = type(start)
    change = add(end, -start)
    if weight < T(0.5) and weight > T(-0.5):
        return fma(weight, change, start)
    return fma(add(weight, T(-1)), change, end)


@inlined
def schedule_free_x(y: Scalar, z: Scalar, momentum: float) -> Scalar:
    """One element of the point that is evaluated.

        x = y + (1 - 1/momentum) (z - y)

    For use inside `@njit` and `@cuda.jit` functions, in host or device memory; nothing is written.

    Parameters
    ----------
    y, z : float32 or float64
        The parameter and the state of the step: scalars of one type.
    momentum : float
        That of the step, from 0.001 to below 1; not checked here.

    Returns
    -------
    x, new.

    Raises
    ------
    numba.core.errors.TypingError
        When it is compiled, for scalars that are not of one floating type.

    Examples
    --------
    >>> schedule_free_x(1.0, 2.0, 0.5)
    0.0
    """
    return lerp(y, z, type(y)(1.0 - div(1.0, momentum)))


@inlined
def weights(t: float, warmup_steps: float, r: float, power: float) -> tuple[float, float]:
    """`c_t`, and what the warmup multiplies the learning rate by, in float64.

    `c_t` is 1 in the first step and there alone, also in float32.
    """
    return div(1.0, relative_sum(t, warmup_steps, r, power)), warmup_part(t, warmup_steps)


@inlined
def warmup_part(t: float, warmup_steps: float) -> float:
    """What the warmup multiplies the learning rate by."""
    part: float = div(t, warmup_steps) if t < warmup_steps else 1.0
    return part


@inlined
def along(lr: Scalar, momentum: float, weight: float) -> float:
    """What `y` is moved by along `d`, beside the average."""
    moved: float = mul(lr, add(mul(momentum, add(1.0, -weight)), -1.0))
    return moved


@inlined
def advance(y: Scalar, z: Scalar, d: Scalar, lr: Scalar, weight: Scalar, moved: Scalar) -> tuple[Scalar, Scalar]:
    """`y` and `z` after a step along `d`."""
    return fma(moved, d, lerp(y, z, weight)), fma(-lr, d, z)


@inlined
def begun(y: Scalar, z: Scalar, weight: Scalar) -> Scalar:
    """`z`, which in the first step, where the weight is 1, is `y` whatever was there."""
    # No equality: from one LLVM would know the weight in `lerp`, and make of its `fma` an addition that is not pinned.
    return y if weight >= type(y)(1) else z


@template
def mapped_advance(prox: Callable[..., Any], keep: Callable[..., Any]) -> Any:
    """`advance` whose `z` goes through the map `prox`, and `y` through `keep`."""

    def mapped_advance(y: Any, z: Any, d: Any, lr: Any, weight: Any, moved: Any, values: Any) -> Any:
        """`advance` whose `z` goes through a map; elements that it leaves alone have the bits of `advance`."""
        plain, free = advance(y, z, d, lr, weight, moved)
        after = prox(free, values)
        if after != free:
            share = div(moved, -lr) if lr != 0 else moved  # 1 - beta (1 - c_t)
            plain = fma(share, add(after, -z), lerp(y, z, weight))
        return keep(plain, values), after

    return mapped_advance


@inlined
def _interpolation_constants(hyper: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    return (T(hyper[0]),)


@inlined
def _interpolation_update(
    p: Scalar, g: Scalar, state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]
) -> tuple[Scalar, tuple[Scalar, ...]]:
    return lerp(p, g, constants[0]), state


# Not in the registry: a step without states, from the parameters towards what stands in the place of the gradient.
INTERPOLATION = Rule(
    name="schedule_free_interpolation",
    update=_interpolation_update,
    constants=_interpolation_constants,
    states=(),
    hyper={"weight": 0.0},
    options={"only": (0,)},
    ranges={"weight": Range(low=-1000.0, below=2.0)},
    elementwise=(),
)


def interpolate(params: Any, to: Any, weight: float, stream: Any = None) -> None:
    """Move arrays towards others, in place: `params <- lerp(params, to, weight)`; a weight of 1 copies."""
    update(INTERPOLATION, params, to, [], {"weight": weight}, (0,), stream)


def warmup_number(x: Any, function: str) -> Any:
    """`warmup_steps` as a float, for a function of that name; an array on a device is left as it is.

    A whole number may be a float: numbers of steps that trainers and groups of parameters keep are floats.
    """
    if x.__class__ is int and 0 <= x < 1 << 53:
        return float(x)
    if validation.is_device_array(x):
        return x
    if isinstance(x, float) and x.is_integer():
        x = int(x)
    with validation.prefixed(function):
        return float(validation.whole("warmup_steps", x, 0, 1 << 53))


def evaluation_weight(momentum: float) -> float:
    """The weight of `z - y` that leads from `y` to `x`."""
    return 1.0 - 1.0 / momentum


def training_weight(momentum: float) -> float:
    """The weight of `z - x` that leads from `x` to `y`."""
    return 1.0 - momentum


def schedule_free_eval(params: Params, z: Arrays, momentum: float = 0.9, stream: Any = None) -> Params:
    """From `y` to `x`, in place: the parameters that were trained become those to evaluate and to keep.

        x = y + (1 - 1/momentum) (z - y)

    Parameters
    ----------
    params : array
        `y`, as a schedule-free step left it; modified in place.  Every kind of array and place that `nagd_numba.step`
        takes, and lists of arrays.
    z : array
        The state of the step: same dtype, shape and device.  Not modified.
    momentum : float
        That of the step (`beta1` of `schedule_free_adamw_step`), from 0.001 to below 1.
    stream : optional
        As for `nagd_numba.step`.

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
    `schedule_free_train` is the way back, up to roundings: after it the parameters may differ from those before in the
    last bits.  Whoever must go on to the same bits keeps a copy: `x = schedule_free_eval(params.copy(), z)`.  Both are
    those of the reference's `eval()` and `train()`.

    References
    ----------
    A. Defazio et al., The road less scheduled, NeurIPS 2024, arXiv:2405.15682.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> y, z = np.array([1.0]), np.array([2.0])
    >>> nagd_numba.schedule_free_eval(y, z, momentum=0.5)
    array([0.])
    >>> nagd_numba.schedule_free_train(y, z, momentum=0.5)
    array([1.])
    """
    _interpolated("schedule_free_eval", params, z, momentum, evaluation_weight, stream)
    return params


def schedule_free_train(params: Params, z: Arrays, momentum: float = 0.9, stream: Any = None) -> Params:
    """From `x` back to `y`, in place: the way back from `schedule_free_eval`.

        y = x + (1 - momentum) (z - x)

    Parameters
    ----------
    params : array
        `x`; modified in place.  Every kind of array and place that `nagd_numba.step` takes, and lists of arrays.
    z : array
        The state of the step: same dtype, shape and device.  Not modified.
    momentum : float
        That of the step, from 0.001 to below 1.
    stream : optional
        As for `nagd_numba.step`.

    Returns
    -------
    params, the same object.

    Raises
    ------
    TypeError, ValueError
        For unfit arrays or values, before anything is written.
    RuntimeError
        For device arrays where CUDA cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> x, z = np.array([0.0]), np.array([2.0])
    >>> nagd_numba.schedule_free_train(x, z, momentum=0.5)
    array([1.])
    """
    _interpolated("schedule_free_train", params, z, momentum, training_weight, stream)
    return params


def _interpolated(name: str, params: Any, z: Any, momentum: Any, weight: Callable[[float], float], stream: Any) -> None:
    with validation.prefixed(name):
        beta = validation.real("momentum", momentum)
        if not MOMENTUM.holds(beta):
            raise ValueError(f"momentum is {validation.shown(momentum)}; {MOMENTUM} is needed")
        try:
            flat, to = (x.flat if isinstance(x, FlatParams) else x for x in (params, z))
            interpolate(flat, to, weight(beta), stream)
        except (TypeError, ValueError) as error:  # the rule has z in the place of a gradient
            raise type(error)(str(error).replace("grads", "z")) from error
