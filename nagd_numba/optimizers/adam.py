r"""Adam: steps scaled by averages of the gradient and of its square.

With the gradient `g` at the parameters `p` and the number `t` of the step, counted from 1:

    g <- g + w p                            an L2 penalty, where the weight decay w is not 0
    m <- beta1 m + (1 - beta1) g
    v <- beta2 v + (1 - beta2) g^2
    p <- p - lr/(1 - beta1^t) m / (sqrt(v)/sqrt(1 - beta2^t) + eps)

The powers are constants of a step: they are formed once, in float64, and rounded (`kernels.power`).

Roundings are pinned to those of `torch.optim.Adam` on the CPU with AVX2 or AVX-512 (`foreach` or not), `W` being
`1 - beta1` and `c`, `s` the constants of the last line in the type of the arrays:

    m = fma(W, m' , m) with m' = rnd(g - m); from W = 1/2 on, fma(W - 1, m', g)
    v = fma(rnd((1 - beta2) g), g, rnd(beta2 v))
    p = rnd(p + rnd(rnd(-s m) / rnd(rnd(rnd(sqrt(v)) / c) + eps)))

From equal `p`, `g`, `m` and `v` a step makes PyTorch's moments to the last bit.  It makes its parameters wherever
PyTorch's square root is the rounded one: its is MKL's, which returns a neighbour for 0.6 % of the numbers on Intel's
processors, and for 17 % on AMD's (float32).
The denominator is then off by a unit or two in the last place, and a step by at most `4 u |step|`, `u` being the type's
epsilon, before it is added to `p`.  Over many steps with given gradients the moments stay PyTorch's where `w = 0`, for
they depend on the gradients alone.  With a penalty they depend on `p` as well, and follow it: after the first step in
which an element of `p` is another, its moments may be.
(PyTorch's `fused=True` rounds differently, depending on how a vector is cut.)

Reference: D. P. Kingma and J. Ba, ICLR 2015, arXiv:1412.6980.
"""

from __future__ import annotations

from typing import Any

from ..kernels.jit import inlined
from ..kernels.power import whole_power
from ..kernels.rounding import add, div, fma, mul, sqrt
from ..kernels.rule import Range, Rule
from ._dispatch import python_step, rule_constants, step_number
from ._overload import in_compiled_code
from .arrays import Arrays, Constants, Params, Scalar, State
from .average import Average
from .composed_arguments import Composition
from .guard import Guard
from .optimizer import Method, Optimizer
from .storage import StochasticRounding

RANGES = {
    "beta1": Range(below=1.0),
    "beta2": Range(below=1.0),
    "t": Range(low=1.0, below=2.0**53, whole=True),
}


@inlined
def moments(
    g: Scalar, m: Scalar, v: Scalar, weight: Scalar, beta2: Scalar, square_weight: Scalar
) -> tuple[Scalar, Scalar]:
    """The averages `m` of the gradient and `v` of its square, with `g` added; `weight` is `1 - beta1`."""
    T = type(g)
    change = add(g, -m)
    if weight < T(0.5):
        m = fma(weight, change, m)
    else:
        m = fma(add(weight, T(-1)), change, g)
    return m, fma(mul(square_weight, g), g, mul(beta2, v))


@inlined
def descend(p: Scalar, m: Scalar, v: Scalar, step_size: Scalar, correction: Scalar, eps: Scalar) -> Scalar:
    """`p` after a step along `m`; `step_size` is negative."""
    return add(p, div(mul(step_size, m), add(div(sqrt(v), correction), eps)))


@inlined
def adam_update(p: Scalar, g: Scalar, m: Scalar, v: Scalar, constants: Constants) -> tuple[Scalar, Scalar, Scalar]:
    """One element of Adam: returns the new `(p, m, v)`.

        m = beta1 m + (1 - beta1) g;    v = beta2 v + (1 - beta2) g^2
        p = p - lr/(1 - beta1^t) m / (sqrt(v)/sqrt(1 - beta2^t) + eps)

    For use inside `@njit` and `@cuda.jit` functions, in host or device memory; nothing is written.

    Parameters
    ----------
    p, g, m, v : float32 or float64
        The parameter, its gradient, the averages of the gradient and of its square: scalars of one type.
    constants : tuple
        What `adam_constants` makes of the hyper-parameters, once a step.

    Returns
    -------
    (p, m, v), new.

    Raises
    ------
    numba.core.errors.TypingError
        When it is compiled, for scalars that are not of one floating type.

    Examples
    --------
    >>> import numpy as np
    >>> from numba import njit
    >>> from nagd_numba import adam_constants
    >>> @njit
    ... def descend(x, steps):
    ...     m = v = 0.0
    ...     for t in range(1, steps + 1):
    ...         x, m, v = adam_update(x, 2 * (x - 3), m, v, adam_constants(np.float64, t, 0.1))
    ...     return x
    >>> round(descend(0.0, 1000), 6)
    3.0
    """
    step_size, weight, beta2, square_weight, correction, eps, weight_decay = constants
    if weight_decay != 0:
        g = fma(weight_decay, p, g)
    m, v = moments(g, m, v, weight, beta2, square_weight)
    return descend(p, m, v, step_size, correction, eps), m, v


@inlined
def powers(beta1: float, beta2: Scalar, t: float) -> tuple[float, float]:
    """The sum of the weights in the average of gradients, and the square root of that in the average of squares."""
    return 1.0 - whole_power(beta1, t), sqrt(1.0 - whole_power(beta2, t))


@inlined
def once(hyper: tuple[float, ...], options: tuple[Any, ...]) -> tuple[float, float]:
    """What is the same for all elements, whatever their `lr` and `weight_decay`."""
    return powers(hyper[1], hyper[2], hyper[5])


@inlined
def _then(hyper: tuple[float, ...], made: tuple[float, float], T: Any, options: tuple[Any, ...]) -> Constants:
    lr, beta1, beta2, eps, weight_decay, _ = hyper
    return T(div(-lr, made[0])), T(1.0 - beta1), T(beta2), T(1.0 - beta2), T(made[1]), T(eps), T(weight_decay)


@inlined
def _constants(hyper: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    return _then(hyper, once(hyper, options), T, options)


@inlined
def scale(state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]) -> Scalar:
    """What `lr` is multiplied by, beside the correction of `m`."""
    v = state[1]
    return div(type(v)(1), add(div(sqrt(v), constants[4]), constants[5]))


@inlined
def _update(
    p: Scalar, g: Scalar, state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]
) -> tuple[Scalar, tuple[Scalar, ...]]:
    (maximize,) = options
    m, v = state
    p, m, v = adam_update(p, -g if maximize else g, m, v, constants)
    return p, (m, v)


RULE = Rule(
    name="adam",
    update=_update,
    constants=_constants,
    states=("m", "v"),
    hyper={"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "t": 1.0},
    options={"maximize": (False, True)},
    ranges=RANGES,
    nonnegative=("v",),
    split=(once, _then),
    scale=scale,
)


def adam_step(
    params: Params,
    grads: Arrays,
    m: State,
    v: State,
    t: int,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
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
    average: Average | tuple[Any, float] | None = None,
    groups: Any = None,
) -> Params:
    """One step of Adam, in place.

    With the gradient `g` at the parameters `p`, plus `weight_decay p` where there is a weight decay:

        m <- beta1 m + (1 - beta1) g;    v <- beta2 v + (1 - beta2) g^2
        p <- p - lr/(1 - beta1^t) m / (sqrt(v)/sqrt(1 - beta2^t) + eps)

    Parameters
    ----------
    params : array
        The parameters, float32 or float64, any shape; modified in place.  Every kind of array and place that
        `nagd_numba.step` takes, and lists of arrays.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    m, v : array
        The averages of the gradient and of its square: the same again, zeros before the first step; modified in place.
        None may share memory.  Beside float16 or bfloat16 parameters: float32, or an `Int8State`.
    t : int
        The number of this step, from 1 on: 1 goes with `m` and `v` that are zeros.
    lr : float
        Learning rate, finite, >= 0.
    beta1, beta2 : float
        What stays of the averages in a step, from 0 to below 1.
    eps : float
        Finite, >= 0; keeps the quotient small where `v` is.
    weight_decay : float
        `w`, finite, >= 0: adds `w p` to the gradient (an L2 penalty `w/2 |p|^2`).  See also `adamw_step`.
    maximize : bool
        Ascend instead of descend.
    stream, master, guard, rounding, compensation : optional
        As for `nagd_numba.step`.
    mask, lower, upper, prox, prox_weight, average, groups : optional
        As for `nagd_numba.step`; "scaled_l1" is the map in the metric of Adam: its threshold is
        `lr prox_weight / (sqrt(v_hat) + eps)`.

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
    From equal arrays a step makes the `m` and `v` of `torch.optim.Adam` to the last bit, and nearly its `params`:
    `nagd_numba.optimizers.adam` says where they differ, and why, and that over many steps a weight decay carries the
    difference into the moments.  Inside `@njit` functions and in `prange` as `nagd_numba.step`; inside a `@cuda.jit`
    kernel use `nagd_numba.adam_update` on scalars.

    With CUDA arrays the hyper-parameters may be arrays of one element, as for `nagd_numba.step`, and `t` one of int64:
    the step uses it and then adds 1 to it, unless it changes nothing.  Every call counts: give each of several calls a
    `t` of its own, or step lists.

    References
    ----------
    D. P. Kingma and J. Ba, ICLR 2015, arXiv:1412.6980.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> target = np.array([3.0, -1.0])
    >>> params, m, v = np.zeros(2), np.zeros(2), np.zeros(2)
    >>> for t in range(1, 1001):
    ...     grads = 2 * (params - target)
    ...     _ = nagd_numba.adam_step(params, grads, m, v, t, lr=0.05)
    >>> params.round(6)
    array([ 3., -1.])
    """
    hyper = lr, beta1, beta2, eps, weight_decay, step_number(t, "adam_step")
    composition = (
        None
        if mask is lower is upper is prox is prox_weight is groups is average is None
        else Composition(mask, lower, upper, prox, prox_weight, average, groups)
    )
    _python_step(params, grads, (m, v), hyper, (maximize,), stream, master, guard, rounding, compensation, composition)
    return params


def adam_constants(
    dtype: Any,
    t: int,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Constants:
    """What `adam_update` needs of the hyper-parameters in step `t`: a tuple of scalars of `dtype`.

    From Python (for the arguments of a `@cuda.jit` kernel) and inside `@njit` functions, once a step.

    Parameters
    ----------
    dtype : numpy.float32 or numpy.float64
        The type of the scalars that are stepped.
    t : int
        The number of the step, from 1 on.
    lr, beta1, beta2, eps, weight_decay : optional
        As for `adam_step`, with the same defaults and ranges.

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
    >>> p, m, v = nagd_numba.adam_update(1.0, 4.0, 0.0, 0.0, nagd_numba.adam_constants(np.float64, 1, lr=0.1))
    >>> round(p, 6), round(m, 6), round(v, 6)
    (0.9, 0.4, 0.016)
    """
    settings = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay, "t": t}
    return rule_constants(OPTIMIZER, dtype, **settings)


OPTIMIZER = Optimizer(
    RULE,
    adam_step,
    adam_update,
    adam_constants,
    methods=(Method("adam", "Adam", momentum="beta1"),),
)
_python_step = python_step(OPTIMIZER)
in_compiled_code(OPTIMIZER)
