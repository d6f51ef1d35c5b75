r"""RMSProp: steps scaled by an average of the square of the gradient.

With the gradient `g` at the parameters `p`:

    g <- g + w p                            an L2 penalty, where the weight decay w is not 0
    v <- alpha v + (1 - alpha) g^2
    p <- p - lr g / (sqrt(v) + eps)

Roundings are pinned to those of `torch.optim.RMSprop` on the CPU (`foreach` or not):

    g = fma(w, p, g)
    v = fma(rnd((1 - alpha) g), g, rnd(alpha v))
    p = rnd(p + rnd(rnd(-lr g) / rnd(rnd(sqrt(v)) + eps)))

From equal `p`, `g` and `v` a step makes PyTorch's `v` to the last bit, and its parameters wherever PyTorch's square
root is the rounded one; for the numbers where it is not (0.6 % on Intel's processors, 17 % on AMD's), and for what a
penalty makes of that over many steps, see `nagd_numba.optimizers.adam`.

PyTorch's options `momentum` and `centered` are left out: each needs an array more, in every step.  With an average of
the gradient beside the one of its square the method is Adam.

Reference: T. Tieleman and G. Hinton, Lecture 6.5, COURSERA: Neural Networks for Machine Learning, 2012.
"""

from __future__ import annotations

from typing import Any

from ..kernels.jit import inlined
from ..kernels.rounding import add, div, fma, mul, sqrt
from ..kernels.rule import Range, Rule
from ._dispatch import python_step, rule_constants
from ._overload import in_compiled_code
from .arrays import Arrays, Constants, Params, Scalar, State
from .average import Average
from .composed_arguments import Composition
from .guard import Guard
from .optimizer import Method, Optimizer
from .storage import StochasticRounding


@inlined
def rmsprop_update(p: Scalar, g: Scalar, v: Scalar, constants: Constants) -> tuple[Scalar, Scalar]:
    """One element of RMSProp: returns the new `(p, v)`.

        v = alpha v + (1 - alpha) g^2;    p = p - lr g / (sqrt(v) + eps)

    For use inside `@njit` and `@cuda.jit` functions, in host or device memory; nothing is written.

    Parameters
    ----------
    p, g, v : float32 or float64
        The parameter, its gradient, the average of its square: scalars of one type.
    constants : tuple
        What `rmsprop_constants` makes of the hyper-parameters.

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
    >>> p, v = rmsprop_update(1.0, 4.0, 0.0, nagd_numba.rmsprop_constants(np.float64, lr=0.1))
    >>> round(p, 6), round(v, 6)
    (0.0, 0.16)
    """
    lr, alpha, weight, eps, weight_decay = constants
    if weight_decay != 0:
        g = fma(weight_decay, p, g)
    v = fma(mul(weight, g), g, mul(alpha, v))
    return add(p, div(mul(-lr, g), add(sqrt(v), eps))), v


@inlined
def _constants(hyper: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    lr, alpha, eps, weight_decay = hyper
    return T(lr), T(alpha), T(1.0 - alpha), T(eps), T(weight_decay)


@inlined
def _scale(state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]) -> Scalar:
    """What `lr` is multiplied by."""
    return div(type(state[0])(1), add(sqrt(state[0]), constants[3]))


@inlined
def _update(
    p: Scalar, g: Scalar, state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]
) -> tuple[Scalar, tuple[Scalar, ...]]:
    (maximize,) = options
    p, v = rmsprop_update(p, -g if maximize else g, state[0], constants)
    return p, (v,)


RULE = Rule(
    name="rmsprop",
    update=_update,
    constants=_constants,
    states=("v",),
    hyper={"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0},
    options={"maximize": (False, True)},
    ranges={"alpha": Range(below=1.0)},
    nonnegative=("v",),
    scale=_scale,
)


def rmsprop_step(
    params: Params,
    grads: Arrays,
    v: State,
    lr: float = 0.01,
    alpha: float = 0.99,
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
    """One step of RMSProp, in place: scaled by an average of the square of the gradient.

    With the gradient `g` at the parameters `p`, plus `weight_decay p` where there is a weight decay:

        v <- alpha v + (1 - alpha) g^2
        p <- p - lr g / (sqrt(v) + eps)

    Parameters
    ----------
    params : array
        The parameters, float32 or float64, any shape; modified in place.  Every kind of array and place that
        `nagd_numba.step` takes, and lists of arrays.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    v : array
        The average of the square of the gradient: the same again, zeros before the first step; modified in place.
        None may share memory.  Beside float16 or bfloat16 parameters: float32, or an `Int8State`.
    lr : float
        Learning rate, finite, >= 0.
    alpha : float
        What stays of the average in a step, from 0 to below 1.
    eps : float
        Finite, >= 0; keeps the quotient small where `v` is.
    weight_decay : float
        `w`, finite, >= 0: adds `w p` to the gradient (an L2 penalty `w/2 |p|^2`).
    maximize : bool
        Ascend instead of descend.
    stream, master, guard, rounding, compensation : optional
        As for `nagd_numba.step`.
    mask, lower, upper, prox, prox_weight, average, groups : optional
        As for `nagd_numba.step`; the threshold of "scaled_l1" is `lr prox_weight / (sqrt(v) + eps)`.

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
    From equal arrays a step makes the `v` of `torch.optim.RMSprop` (without its `momentum` and `centered`) to the last
    bit, and nearly its `params`: `nagd_numba.optimizers.rmsprop` says where they differ, and why.  Inside `@njit`
    functions and in `prange` as `nagd_numba.step`; inside a `@cuda.jit` kernel use `nagd_numba.rmsprop_update` on
    scalars.

    References
    ----------
    T. Tieleman and G. Hinton, Lecture 6.5, COURSERA: Neural Networks for Machine Learning, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> target = np.array([3.0, -1.0])
    >>> params, v = np.zeros(2), np.zeros(2)
    >>> for k in range(400):
    ...     grads = 2 * (params - target)
    ...     _ = nagd_numba.rmsprop_step(params, grads, v, lr=0.1 * 0.98**k)
    >>> params.round(2)
    array([ 3., -1.])
    """
    composition = (
        None
        if mask is lower is upper is prox is prox_weight is groups is average is None
        else Composition(mask, lower, upper, prox, prox_weight, average, groups)
    )
    _python_step(
        params,
        grads,
        (v,),
        (lr, alpha, eps, weight_decay),
        (maximize,),
        stream,
        master,
        guard,
        rounding,
        compensation,
        composition,
    )
    return params


def rmsprop_constants(
    dtype: Any, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0
) -> Constants:
    """What `rmsprop_update` needs of the hyper-parameters: a tuple of scalars of `dtype`.

    From Python (for the arguments of a `@cuda.jit` kernel) and inside `@njit` functions, once a step.

    Parameters
    ----------
    dtype : numpy.float32 or numpy.float64
        The type of the scalars that are stepped.
    lr, alpha, eps, weight_decay : optional
        As for `rmsprop_step`, with the same defaults and ranges.

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
    >>> constants = nagd_numba.rmsprop_constants(np.float64, lr=0.5, alpha=0.0, eps=0.0)
    >>> nagd_numba.rmsprop_update(1.0, 4.0, 0.0, constants)
    (0.5, 16.0)
    """
    return rule_constants(OPTIMIZER, dtype, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay)


OPTIMIZER = Optimizer(
    RULE,
    rmsprop_step,
    rmsprop_update,
    rmsprop_constants,
    methods=(Method("rmsprop", "RMSProp"),),
)
_python_step = python_step(OPTIMIZER)
in_compiled_code(OPTIMIZER)
