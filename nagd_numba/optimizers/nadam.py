r"""Nadam: Adam with Nesterov's momentum, in the variants of the frameworks.

With the gradient `g` at the parameters `p` and the number `t` of the step, counted from 1:

    g <- g + w p                            an L2 penalty (or p <- (1 - lr w) p: decoupled)
    m <- beta1 m + (1 - beta1) g
    v <- beta2 v + (1 - beta2) g^2
    p <- p - lr [(1 - mu_t)/(1 - M_t) g + mu_{t+1}/(1 - M_{t+1}) m] / (sqrt(v/(1 - beta2^t)) + eps)

where `M_t` is the product of `mu_1` to `mu_t`.  The variants differ in the schedule `mu_t`, and after 50 steps at
`lr = 0.01` by 1e-2 and more:

======= ========================================= ==================
variant mu_t                                      eps there, usually
======= ========================================= ==================
torch   beta1 (1 - 0.96^(0.004 t)/2)              1e-8
keras   beta1 (1 - 0.96^t/2)                      1e-7
optax   beta1                                     1e-8
======= ========================================= ==================

The product is a function of `t`, so no state but `m` and `v` is carried: it is formed anew in each step, from its
first factor on until it is below 2^-54, where `1 - M_t` is 1 in float64.  That takes 48 factors at most for "torch" and
224 for "keras" at `beta1 = 0.9`, and none once `exp(-t (1 - beta1))` is below it (from step 381 on).  PyTorch rounds
the product to float32 after every factor, whatever the type of the parameters, and so does "torch".  The powers are
rounded from exact ones: they do not depend on a C library, and are the same on a device (`kernels.power`).

Roundings are pinned to those of `torch.optim.NAdam` on the CPU as described in `adam.py`, with the same bits of the
moments under the same conditions (also with `decoupled=True`, where they do not depend on `p`); its two steps of the
parameters are rounded one after the other.  (Its `foreach` form divides by `sqrt(1 - beta2^t)` after the root instead.)

Reference: T. Dozat, ICLR workshop 2016 (whose algorithm has another factor beta2 at v, which no framework has).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from ..kernels.jit import inlined
from ..kernels.power import long_power, whole_power
from ..kernels.power import product as long_product
from ..kernels.rounding import add, div, fma, mul, sqrt
from ..kernels.rule import Range, Rule
from ._dispatch import choice_number, python_step, rule_constants, step_number
from ._overload import in_compiled_code
from .adam import RANGES, moments
from .arrays import Arrays, Constants, Params, Scalar, State
from .average import Average
from .composed_arguments import Composition
from .guard import Guard
from .optimizer import Method, Optimizer
from .storage import StochasticRounding

Variant = Literal["torch", "keras", "optax"]
VARIANTS = get_args(Variant)
TORCH, KERAS, OPTAX = range(3)
_NEGLIGIBLE = 2.0**-54
_LONG = 38.0  # beta1^t <= exp(-t (1 - beta1)), which is then negligible

# 0.96^0.004 t of PyTorch's schedule is a power of _ROOT + _ROOT_REST, which is 0.96^0.004 to twice the digits.
_BASE, _RATE = 0.96, 0.004
_ROOT, _ROOT_REST, _LOG = 0.9998367253526753, -3.684457749510485e-17, -0.040821994520255166


@inlined
def nadam_update(p: Scalar, g: Scalar, m: Scalar, v: Scalar, constants: Constants) -> tuple[Scalar, Scalar, Scalar]:
    """One element of Nadam: returns the new `(p, m, v)`.

        m = beta1 m + (1 - beta1) g;    v = beta2 v + (1 - beta2) g^2
        p = p - lr [(1 - mu_t)/(1 - M_t) g + mu_{t+1}/(1 - M_{t+1}) m] / (sqrt(v/(1 - beta2^t)) + eps)

    For use inside `@njit` and `@cuda.jit` functions, in host or device memory; nothing is written.

    Parameters
    ----------
    p, g, m, v : float32 or float64
        The parameter, its gradient, the averages of the gradient and of its square: scalars of one type.
    constants : tuple
        What `nadam_constants` makes of the hyper-parameters, once a step.

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
    >>> p, m, v = nadam_update(1.0, 4.0, 0.0, 0.0, nagd_numba.nadam_constants(np.float64, 1, variant="optax"))
    >>> round(p, 6), round(m, 6), round(v, 6)
    (0.997053, 0.4, 0.016)
    """
    along_g, along_m, weight, beta2, square_weight, correction, eps, penalty, shrink = constants
    if penalty != 0:
        g = fma(penalty, p, g)
    m, v = moments(g, m, v, weight, beta2, square_weight)
    scale = add(sqrt(div(v, correction)), eps)
    p = add(mul(shrink, p), div(mul(along_g, g), scale))
    return add(p, div(mul(along_m, m), scale)), m, v


@inlined
def schedule(beta1: float, t: float, variant: float) -> tuple[Scalar, Scalar]:
    """`mu_t` and `mu_{t+1}`."""
    base, rest = _base(variant)
    high, low = long_power(base, rest, t)
    next_high, next_low = long_product(high, low, base, rest)
    return _momentum(beta1, t, high, low, variant), _momentum(beta1, t + 1.0, next_high, next_low, variant)


@inlined
def _base(variant: float) -> tuple[float, float]:
    """What has the power `t` in `mu_t`, as a sum of two numbers."""
    return (_ROOT, _ROOT_REST) if variant == TORCH else (_BASE, 0.0)


@inlined
def _momentum(beta1: float, t: float, high: float, low: float, variant: float) -> Scalar:
    """`mu_t`, given the power of `_base` in it as a sum of two numbers."""
    if variant == OPTAX:
        return beta1
    if variant == TORCH:  # there the exponent is a rounded product
        exponent = mul(_RATE, t)
        beyond = -fma(_RATE, t, -exponent)
        high = add(high, fma(mul(high, beyond), _LOG, low))
    return mul(beta1, add(1.0, mul(-0.5, high)))


@inlined
def product(beta1: float, t: float, variant: float) -> Scalar:
    """The product of `mu_1` to `mu_t`; only that it is below 2^-54 where it is."""
    if mul(t, 1.0 - beta1) > _LONG:
        return 0.0
    base, rest = _base(variant)
    high, low, made, i = 1.0, 0.0, 1.0, 1.0
    while variant != OPTAX and i <= t and made >= _NEGLIGIBLE and high >= _NEGLIGIBLE:
        high, low = long_product(high, low, base, rest)
        mu = _momentum(beta1, i, high, low, variant)
        if variant == TORCH:  # a product of two float32 is exact in float64
            made = np.float64(np.float32(mul(made, np.float64(np.float32(mu)))))
        else:
            made = mul(made, mu)
        i += 1.0
    return made if made < _NEGLIGIBLE else mul(made, whole_power(beta1, t - i + 1.0))  # the other factors are beta1


@inlined
def _once(hyper: tuple[float, ...], options: tuple[Any, ...]) -> tuple[float, ...]:
    """The momenta of this step and the next, their product so far, and the sum of the weights of squares."""
    _, beta1, beta2, _, _, t, variant = hyper
    mu, mu_next = schedule(beta1, t, variant)
    return mu, mu_next, product(beta1, t, variant), 1.0 - whole_power(beta2, t)


@inlined
def _then(hyper: tuple[float, ...], made: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    lr, beta1, beta2, eps, weight_decay, _, _ = hyper
    mu, mu_next, so_far, squares = made
    decoupled = options[1]
    along_g = div(mul(-lr, 1.0 - mu), 1.0 - so_far)
    along_m = div(mul(-lr, mu_next), 1.0 - mul(so_far, mu_next))
    penalty = 0.0 if decoupled else weight_decay
    shrink = 1.0 - mul(lr, weight_decay) if decoupled else 1.0
    return (
        T(along_g),
        T(along_m),
        T(1.0 - beta1),
        T(beta2),
        T(1.0 - beta2),
        T(squares),
        T(eps),
        T(penalty),
        T(shrink),
    )


@inlined
def _constants(hyper: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    return _then(hyper, _once(hyper, options), T, options)


@inlined
def _scale(state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]) -> Scalar:
    """What `lr` is multiplied by, beside the corrections of `m`."""
    v = state[1]
    return div(type(v)(1), add(sqrt(div(v, constants[5])), constants[6]))


@inlined
def _update(
    p: Scalar, g: Scalar, state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]
) -> tuple[Scalar, tuple[Scalar, ...]]:
    maximize, _ = options
    m, v = state
    p, m, v = nadam_update(p, -g if maximize else g, m, v, constants)
    return p, (m, v)


RULE = Rule(
    name="nadam",
    update=_update,
    constants=_constants,
    states=("m", "v"),
    hyper={"lr": 0.002, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "t": 1.0, "variant": 0.0},
    options={"maximize": (False, True), "decoupled": (False, True)},
    ranges={**RANGES, "variant": Range(below=float(len(VARIANTS)), whole=True)},
    nonnegative=("v",),
    split=(_once, _then),
    scale=_scale,
)


def nadam_step(
    params: Params,
    grads: Arrays,
    m: State,
    v: State,
    t: int,
    lr: float = 0.002,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    variant: Variant = "torch",
    decoupled: bool = False,
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
    """One step of Nadam, Adam with Nesterov's momentum, in place.

    With `mu_t` the momentum of step `t`, and `M_t` the product of `mu_1` to `mu_t`:

        m <- beta1 m + (1 - beta1) g;    v <- beta2 v + (1 - beta2) g^2
        p <- p - lr [(1 - mu_t)/(1 - M_t) g + mu_{t+1}/(1 - M_{t+1}) m] / (sqrt(v/(1 - beta2^t)) + eps)

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
        `w`, finite, >= 0: adds `w p` to the gradient.
    variant : {"torch", "keras", "optax"}
        The schedule: `mu_t = beta1 (1 - 0.96^(0.004 t)/2)`, `beta1 (1 - 0.96^t/2)`, or `beta1`.  Keras also has
        `eps=1e-7` and `lr=0.001`.
    decoupled : bool
        Multiply `p` by `1 - lr w` before the step instead.
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
    As for `adam_step`; the peer is `torch.optim.NAdam`.  `M_t` is formed anew in each of the first steps, which costs
    up to 10 microseconds (`nagd_numba.optimizers.nadam`).  In compiled code `variant` must be a constant.

    References
    ----------
    T. Dozat, Incorporating Nesterov momentum into Adam, ICLR workshop 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> target = np.array([3.0, -1.0])
    >>> params, m, v = np.zeros(2), np.zeros(2), np.zeros(2)
    >>> for t in range(1, 1001):
    ...     grads = 2 * (params - target)
    ...     _ = nagd_numba.nadam_step(params, grads, m, v, t, lr=0.05)
    >>> params.round(6)
    array([ 3., -1.])
    """
    number = choice_number(OPTIMIZER, "variant", variant)
    hyper = lr, beta1, beta2, eps, weight_decay, step_number(t, "nadam_step"), number
    composition = (
        None
        if mask is lower is upper is prox is prox_weight is groups is average is None
        else Composition(mask, lower, upper, prox, prox_weight, average, groups)
    )
    _python_step(
        params,
        grads,
        (m, v),
        hyper,
        (variant, decoupled, maximize),
        stream,
        master,
        guard,
        rounding,
        compensation,
        composition,
    )
    return params


def nadam_constants(
    dtype: Any,
    t: int,
    lr: float = 0.002,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    variant: Variant = "torch",
    decoupled: bool = False,
) -> Constants:
    """What `nadam_update` needs of the hyper-parameters in step `t`: a tuple of scalars of `dtype`.

    From Python (for the arguments of a `@cuda.jit` kernel) and inside `@njit` functions, once a step.

    Parameters
    ----------
    dtype : numpy.float32 or numpy.float64
        The type of the scalars that are stepped.
    t : int
        The number of the step, from 1 on.
    lr, beta1, beta2, eps, weight_decay, variant, decoupled : optional
        As for `nadam_step`, with the same defaults and ranges.

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
    >>> constants = nagd_numba.nadam_constants(np.float64, 1, lr=0.1)
    >>> p, m, v = nagd_numba.nadam_update(1.0, 0.0, 0.0, 0.0, constants)
    >>> p, m, v
    (1.0, 0.0, 0.0)
    """
    settings = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay, "t": t}
    return rule_constants(OPTIMIZER, dtype, **settings, variant=variant, decoupled=decoupled)


OPTIMIZER = Optimizer(
    RULE,
    nadam_step,
    nadam_update,
    nadam_constants,
    choices={"variant": VARIANTS},
    methods=(Method("nadam", "Nadam", momentum="beta1"),),
)
_python_step = python_step(OPTIMIZER)
in_compiled_code(OPTIMIZER)
