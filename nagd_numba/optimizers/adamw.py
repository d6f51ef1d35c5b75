"""AdamW: Adam whose weight decay shrinks the parameters and does not pass through the averages.

    p <- (1 - lr w) p                       the weight decay w
    m, v, p as in Adam (`adam.py`) without its penalty

Roundings are pinned to those of `torch.optim.AdamW`, as they are in Adam to those of `torch.optim.Adam`.  The moments
do not depend on `p`: with given gradients they stay PyTorch's to the last bit.

Reference: I. Loshchilov and F. Hutter, ICLR 2019, arXiv:1711.05101.
"""

from __future__ import annotations

from typing import Any

from ..kernels.jit import inlined
from ..kernels.rounding import div, mul
from ..kernels.rule import Rule
from ._dispatch import python_step, rule_constants, step_number
from ._overload import in_compiled_code
from .adam import RANGES, descend, moments, once, scale
from .arrays import Arrays, Constants, Params, Scalar, State
from .average import Average
from .composed_arguments import Composition
from .guard import Guard
from .optimizer import Method, Optimizer
from .storage import StochasticRounding


@inlined
def adamw_update(p: Scalar, g: Scalar, m: Scalar, v: Scalar, constants: Constants) -> tuple[Scalar, Scalar, Scalar]:
    """One element of AdamW: returns the new `(p, m, v)`.

        p = (1 - lr w) p;    m = beta1 m + (1 - beta1) g;    v = beta2 v + (1 - beta2) g^2
        p = p - lr/(1 - beta1^t) m / (sqrt(v)/sqrt(1 - beta2^t) + eps)

    For use inside `@njit` and `@cuda.jit` functions, in host or device memory; nothing is written.

    Parameters
    ----------
    p, g, m, v : float32 or float64
        The parameter, its gradient, the averages of the gradient and of its square: scalars of one type.
    constants : tuple
        What `adamw_constants` makes of the hyper-parameters, once a step.

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
    >>> import nagd_numba
    >>> constants = nagd_numba.adamw_constants(np.float64, 1, lr=0.1, weight_decay=0.5)
    >>> p, m, v = adamw_update(1.0, 0.0, 0.0, 0.0, constants)
    >>> round(p, 6), m, v
    (0.95, 0.0, 0.0)
    """
    step_size, weight, beta2, square_weight, correction, eps, shrink = constants
    m, v = moments(g, m, v, weight, beta2, square_weight)
    return descend(mul(shrink, p), m, v, step_size, correction, eps), m, v


@inlined
def _then(hyper: tuple[float, ...], made: tuple[float, float], T: Any, options: tuple[Any, ...]) -> Constants:
    lr, beta1, beta2, eps, weight_decay, _ = hyper
    shrink = 1.0 - mul(lr, weight_decay)
    return T(div(-lr, made[0])), T(1.0 - beta1), T(beta2), T(1.0 - beta2), T(made[1]), T(eps), T(shrink)


@inlined
def _constants(hyper: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    return _then(hyper, once(hyper, options), T, options)


@inlined
def _update(
    p: Scalar, g: Scalar, state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]
) -> tuple[Scalar, tuple[Scalar, ...]]:
    (maximize,) = options
    m, v = state
    p, m, v = adamw_update(p, -g if maximize else g, m, v, constants)
    return p, (m, v)


RULE = Rule(
    name="adamw",
    update=_update,
    constants=_constants,
    states=("m", "v"),
    hyper={"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01, "t": 1.0},
    options={"maximize": (False, True)},
    ranges=RANGES,
    nonnegative=("v",),
    split=(once, _then),
    scale=scale,
)


def adamw_step(
    params: Params,
    grads: Arrays,
    m: State,
    v: State,
    t: int,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
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
    """One step of AdamW, in place: Adam with a weight decay that does not pass through the averages.

        p <- (1 - lr weight_decay) p
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
        Finite, >= 0.
    maximize : bool
        Ascend instead of descend.
    stream, master, guard, rounding, compensation : optional
        As for `nagd_numba.step`.
    mask, lower, upper, prox, prox_weight, average, groups : optional
        As for `nagd_numba.step`; "scaled_l1" as for `nagd_numba.adam_step`.

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
    As for `adam_step`; the peer is `torch.optim.AdamW`.

    With CUDA arrays the hyper-parameters may be arrays of one element, as for `nagd_numba.step`, and `t` one of int64:
    the step uses it and then adds 1 to it, unless it changes nothing.  Every call counts: give each of several calls a
    `t` of its own, or step lists.

    References
    ----------
    I. Loshchilov and F. Hutter, ICLR 2019, arXiv:1711.05101.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> params, m, v = np.ones(2), np.zeros(2), np.zeros(2)
    >>> nagd_numba.adamw_step(params, np.zeros(2), m, v, 1, lr=0.1, weight_decay=0.5)
    array([0.95, 0.95])
    """
    hyper = lr, beta1, beta2, eps, weight_decay, step_number(t, "adamw_step")
    composition = (
        None
        if mask is lower is upper is prox is prox_weight is groups is average is None
        else Composition(mask, lower, upper, prox, prox_weight, average, groups)
    )
    _python_step(params, grads, (m, v), hyper, (maximize,), stream, master, guard, rounding, compensation, composition)
    return params


def adamw_constants(
    dtype: Any,
    t: int,
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Constants:
    """What `adamw_update` needs of the hyper-parameters in step `t`: a tuple of scalars of `dtype`.

    From Python (for the arguments of a `@cuda.jit` kernel) and inside `@njit` functions, once a step.

    Parameters
    ----------
    dtype : numpy.float32 or numpy.float64
        The type of the scalars that are stepped.
    t : int
        The number of the step, from 1 on.
    lr, beta1, beta2, eps, weight_decay : optional
        As for `adamw_step`, with the same defaults and ranges.

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
    >>> constants = nagd_numba.adamw_constants(np.float32, 1, lr=0.5, weight_decay=0.5)
    >>> nagd_numba.adamw_update(np.float32(1), np.float32(0), np.float32(0), np.float32(0), constants)[0]
    0.75
    """
    settings = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay, "t": t}
    return rule_constants(OPTIMIZER, dtype, **settings)


OPTIMIZER = Optimizer(
    RULE,
    adamw_step,
    adamw_update,
    adamw_constants,
    methods=(Method("adamw", "AdamW", momentum="beta1"),),
)
_python_step = python_step(OPTIMIZER)
in_compiled_code(OPTIMIZER)
