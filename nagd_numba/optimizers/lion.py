r"""Lion: steps of one size, in the direction of the sign of an average of gradients.

With the gradient `g` at the parameters `p`, learning rate `lr`, weight decay `w`, and the average `m`:

    u <- sign(beta1 m + (1 - beta1) g)
    p <- (1 - lr w) p - lr u
    m <- beta2 m + (1 - beta2) g

The sign of 0 is 0.  Every element moves by `lr`, so the learning rate is 3 to 10 times smaller than Adam's, and the
weight decay as much larger.

Every product and every sum is rounded, as the formulas are under NumPy; `1 - beta1`, `1 - beta2` and `1 - lr w` are
formed in float64.

Reference: X. Chen et al., Symbolic discovery of optimization algorithms, NeurIPS 2023, arXiv:2302.06675.
"""

from __future__ import annotations

from typing import Any

from ..kernels.jit import inlined
from ..kernels.rounding import add, mul
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
def lion_update(p: Scalar, g: Scalar, m: Scalar, constants: Constants) -> tuple[Scalar, Scalar]:
    """One element of Lion: returns the new `(p, m)`.

        p = (1 - lr w) p - lr sign(beta1 m + (1 - beta1) g);    m = beta2 m + (1 - beta2) g

    For use inside `@njit` and `@cuda.jit` functions, in host or device memory; nothing is written.

    Parameters
    ----------
    p, g, m : float32 or float64
        The parameter, its gradient, the average of the gradient: scalars of one type.
    constants : tuple
        What `lion_constants` makes of the hyper-parameters.

    Returns
    -------
    (p, m), new.

    Raises
    ------
    numba.core.errors.TypingError
        When it is compiled, for scalars that are not of one floating type.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> p, m = lion_update(1.0, 4.0, 0.0, nagd_numba.lion_constants(np.float64, lr=0.1))
    >>> round(p, 6), round(m, 6)
    (0.9, 0.04)
    """
    lr, beta1, weight1, beta2, weight2, shrink = constants
    T = type(p)
    average = add(mul(beta1, m), mul(weight1, g))
    move = lr if average > 0 else -lr if average < 0 else T(0) if average == 0 else average  # NaN stays
    return add(mul(shrink, p), -move), add(mul(beta2, m), mul(weight2, g))


@inlined
def _constants(hyper: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    lr, beta1, beta2, weight_decay = hyper
    return T(lr), T(beta1), T(1.0 - beta1), T(beta2), T(1.0 - beta2), T(1.0 - mul(lr, weight_decay))


@inlined
def _update(
    p: Scalar, g: Scalar, state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]
) -> tuple[Scalar, tuple[Scalar, ...]]:
    (maximize,) = options
    p, m = lion_update(p, -g if maximize else g, state[0], constants)
    return p, (m,)


RULE = Rule(
    name="lion",
    update=_update,
    constants=_constants,
    states=("m",),
    hyper={"lr": 1e-4, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
    options={"maximize": (False, True)},
    ranges={"beta1": Range(below=1.0), "beta2": Range(below=1.0)},
)


def lion_step(
    params: Params,
    grads: Arrays,
    m: State,
    lr: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
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
    """One step of Lion, in place: by `lr`, in the direction of the sign of an average of gradients.

    With the gradient `g` at the parameters `p`:

        p <- (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g)
        m <- beta2 m + (1 - beta2) g

    Parameters
    ----------
    params : array
        The parameters, float32 or float64, any shape; modified in place.  Every kind of array and place that
        `nagd_numba.step` takes, and lists of arrays.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    m : array
        The average of the gradient: the same again, zeros before the first step; modified in place.  None may share
        memory.  Beside float16 or bfloat16 parameters: float32, or an `Int8State`.
    lr : float
        Learning rate, finite, >= 0: by so much every element moves.
    beta1, beta2 : float
        What stays of the average in the direction, and in the average itself, from 0 to below 1.
    weight_decay : float
        Finite, >= 0; the parameters are multiplied by `1 - lr weight_decay`.
    maximize : bool
        Ascend instead of descend.
    stream, master, guard, rounding, compensation : optional
        As for `nagd_numba.step`.
    mask, lower, upper, prox, prox_weight, average, groups : optional
        As for `nagd_numba.step`, but for "scaled_l1".

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
    The bits are those of the formulas under NumPy (`nagd_numba.optimizers.lion`).  Inside `@njit` functions and in
    `prange` as `nagd_numba.step`; inside a `@cuda.jit` kernel use `nagd_numba.lion_update` on scalars.

    References
    ----------
    X. Chen et al., Symbolic discovery of optimization algorithms, NeurIPS 2023, arXiv:2302.06675.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> target = np.array([3.0, -1.0])
    >>> params, m = np.zeros(2), np.zeros(2)
    >>> for k in range(600):
    ...     grads = 2 * (params - target)
    ...     _ = nagd_numba.lion_step(params, grads, m, lr=0.1 * 0.99**k)
    >>> params.round(2)
    array([ 3., -1.])
    """
    plain = mask is lower is upper is prox is prox_weight is groups is average is None
    composition = None if plain else Composition(mask, lower, upper, prox, prox_weight, average, groups)
    _python_step(
        params,
        grads,
        (m,),
        (lr, beta1, beta2, weight_decay),
        (maximize,),
        stream,
        master,
        guard,
        rounding,
        compensation,
        composition,
    )
    return params


def lion_constants(
    dtype: Any, lr: float = 1e-4, beta1: float = 0.9, beta2: float = 0.99, weight_decay: float = 0.0
) -> Constants:
    """What `lion_update` needs of the hyper-parameters: a tuple of scalars of `dtype`.

    From Python (for the arguments of a `@cuda.jit` kernel) and inside `@njit` functions, once a step.

    Parameters
    ----------
    dtype : numpy.float32 or numpy.float64
        The type of the scalars that are stepped.
    lr, beta1, beta2, weight_decay : optional
        As for `lion_step`, with the same defaults and ranges.

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
    >>> nagd_numba.lion_update(1.0, -4.0, 0.0, nagd_numba.lion_constants(np.float64, lr=0.5))[0]
    1.5
    """
    return rule_constants(OPTIMIZER, dtype, lr=lr, beta1=beta1, beta2=beta2, weight_decay=weight_decay)


OPTIMIZER = Optimizer(
    RULE,
    lion_step,
    lion_update,
    lion_constants,
    methods=(Method("lion", "Lion", momentum="beta1"),),
)
_python_step = python_step(OPTIMIZER)
in_compiled_code(OPTIMIZER)
