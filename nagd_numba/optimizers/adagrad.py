r"""Adagrad: steps scaled by the sum of the squares of all gradients so far.

With the gradient `g` at the parameters `p`, and the number `t` of the step, counted from 1:

    g <- g + w p                            an L2 penalty, where the weight decay w is not 0
    v <- v + g^2
    p <- p - lr/(1 + (t - 1) lr_decay) g / (sqrt(v) + eps)

The quotient of the rates is a constant of a step, formed once, in float64.

Roundings are pinned to those of `torch.optim.Adagrad` on the CPU (`foreach` or not), `c` being that quotient in the
type of the arrays:

    g = fma(w, p, g)
    v = fma(g, g, v)
    p = rnd(p + rnd(rnd(-c g) / rnd(rnd(sqrt(v)) + eps)))

From equal `p`, `g` and `v` a step makes PyTorch's `v` to the last bit, and its parameters wherever PyTorch's square
root is the rounded one; for the numbers where it is not (0.6 % on Intel's processors, 17 % on AMD's), and for what a
penalty makes of that over many steps, see `nagd_numba.optimizers.adam`.

Reference: J. Duchi, E. Hazan and Y. Singer, J. Mach. Learn. Res. 12 (2011) 2121.
"""

from __future__ import annotations

from typing import Any

from ..kernels.jit import inlined
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


@inlined
def adagrad_update(p: Scalar, g: Scalar, v: Scalar, constants: Constants) -> tuple[Scalar, Scalar]:
    """One element of Adagrad: returns the new `(p, v)`.

        v = v + g^2;    p = p - lr/(1 + (t - 1) lr_decay) g / (sqrt(v) + eps)

    For use inside `@njit` and `@cuda.jit` functions, in host or device memory; nothing is written.

    Parameters
    ----------
    p, g, v : float32 or float64
        The parameter, its gradient, the sum of the squares: scalars of one type.
    constants : tuple
        What `adagrad_constants` makes of the hyper-parameters.

    Returns
    -------
    (p, v), new.

    Raises
    ------
    numba.core.errors.TypingError
        When it is compiled, for scalars that are not of one floating type.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> p, v = adagrad_update(1.0, 4.0, 0.0, nagd_numba.adagrad_constants(np.float64, lr=0.1))
    >>> round(p, 6), round(v, 6)
    (0.9, 16.0)
    """
    rate, eps, weight_decay = constants
    if weight_decay != 0:
        g = fma(weight_decay, p, g)
    v = fma(g, g, v)
    return add(p, div(mul(-rate, g), add(sqrt(v), eps))), v


@inlined
def _rate(hyper: tuple[float, ...]) -> float:
    """The step size of this step."""
    lr, _, _, lr_decay, t = hyper
    made: float = div(lr, 1.0 + mul(t - 1.0, lr_decay))
    return made


@inlined
def _constants(hyper: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    _, eps, weight_decay, _, _ = hyper
    return T(_rate(hyper)), T(eps), T(weight_decay)


@inlined
def _scale(state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]) -> Scalar:
    """What the step size is multiplied by."""
    return div(type(state[0])(1), add(sqrt(state[0]), constants[1]))


@inlined
def _update(
    p: Scalar, g: Scalar, state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]
) -> tuple[Scalar, tuple[Scalar, ...]]:
    (maximize,) = options
    p, v = adagrad_update(p, -g if maximize else g, state[0], constants)
    return p, (v,)


RULE = Rule(
    name="adagrad",
    update=_update,
    constants=_constants,
    states=("v",),
    hyper={"lr": 0.01, "eps": 1e-10, "weight_decay": 0.0, "lr_decay": 0.0, "t": 1.0},
    options={"maximize": (False, True)},
    ranges={"t": Range(low=1.0, below=2.0**53, whole=True)},
    nonnegative=("v",),
    rate=_rate,
    scale=_scale,
)


def adagrad_step(
    params: Params,
    grads: Arrays,
    v: State,
    lr: float = 0.01,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    lr_decay: float = 0.0,
    t: int = 1,
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
    """One step of Adagrad, in place: scaled by the sum of the squares of all gradients so far.

    With the gradient `g` at the parameters `p`, plus `weight_decay p` where there is a weight decay:

        v <- v + g^2
        p <- p - lr/(1 + (t - 1) lr_decay) g / (sqrt(v) + eps)

    Parameters
    ----------
    params : array
        The parameters, float32 or float64, any shape; modified in place.  Every kind of array and place that
        `nagd_numba.step` takes, and lists of arrays.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    v : array
        The sum of the squares of the gradients: the same again, modified in place.  Before the first step zeros, or
        any other value >= 0 (PyTorch's `initial_accumulator_value`).  None may share memory.  Beside float16 or
        bfloat16 parameters: float32.
    lr : float
        Learning rate, finite, >= 0.
    eps : float
        Finite, >= 0; keeps the quotient small where `v` is.
    weight_decay : float
        `w`, finite, >= 0: adds `w p` to the gradient (an L2 penalty `w/2 |p|^2`).
    lr_decay : float
        Finite, >= 0; the learning rate falls with the number of the step.
    t : int
        The number of this step, from 1 on; without `lr_decay` it has no meaning.
    maximize : bool
        Ascend instead of descend.
    stream, master, guard, rounding, compensation : optional
        As for `nagd_numba.step`.
    mask, lower, upper, prox, prox_weight, average, groups : optional
        As for `nagd_numba.step`; the threshold of "scaled_l1" is that of the step size, divided by `sqrt(v) + eps`.

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
    From equal arrays a step makes the `v` of `torch.optim.Adagrad` to the last bit, and nearly its `params`:
    `nagd_numba.optimizers.adagrad` says where they differ, and why.  Inside `@njit` functions and in `prange` as
    `nagd_numba.step`; inside a `@cuda.jit` kernel use `nagd_numba.adagrad_update` on scalars.

    With CUDA arrays the hyper-parameters may be arrays of one element, as for `nagd_numba.step`, and `t` one of int64:
    the step uses it and then adds 1 to it, unless it changes nothing.  Every call counts: give each of several calls a
    `t` of its own, or step lists.

    References
    ----------
    J. Duchi, E. Hazan and Y. Singer, J. Mach. Learn. Res. 12 (2011) 2121.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> target = np.array([3.0, -1.0])
    >>> params, v = np.zeros(2), np.zeros(2)
    >>> for _ in range(300):
    ...     grads = 2 * (params - target)
    ...     _ = nagd_numba.adagrad_step(params, grads, v, lr=1.0)
    >>> params.round(6)
    array([ 3., -1.])
    """
    hyper = lr, eps, weight_decay, lr_decay, step_number(t, "adagrad_step")
    composition = (
        None
        if mask is lower is upper is prox is prox_weight is groups is average is None
        else Composition(mask, lower, upper, prox, prox_weight, average, groups)
    )
    _python_step(params, grads, (v,), hyper, (maximize,), stream, master, guard, rounding, compensation, composition)
    return params


def adagrad_constants(
    dtype: Any, lr: float = 0.01, eps: float = 1e-10, weight_decay: float = 0.0, lr_decay: float = 0.0, t: int = 1
) -> Constants:
    """What `adagrad_update` needs of the hyper-parameters: a tuple of scalars of `dtype`.

    From Python (for the arguments of a `@cuda.jit` kernel) and inside `@njit` functions, once a step.

    Parameters
    ----------
    dtype : numpy.float32 or numpy.float64
        The type of the scalars that are stepped.
    lr, eps, weight_decay, lr_decay, t : optional
        As for `adagrad_step`, with the same defaults and ranges.

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
    >>> constants = nagd_numba.adagrad_constants(np.float64, lr=0.5, eps=0.0)
    >>> nagd_numba.adagrad_update(1.0, 4.0, 0.0, constants)
    (0.5, 16.0)
    """
    return rule_constants(OPTIMIZER, dtype, lr=lr, eps=eps, weight_decay=weight_decay, lr_decay=lr_decay, t=t)


OPTIMIZER = Optimizer(
    RULE,
    adagrad_step,
    adagrad_update,
    adagrad_constants,
    methods=(Method("adagrad", "Adagrad"),),
)
_python_step = python_step(OPTIMIZER)
in_compiled_code(OPTIMIZER)
