r"""Nesterov's accelerated gradient, in the forms that the frameworks use.

With the gradient `g` at the stored parameters `p`, learning rate `lr`, momentum `mu` and the momentum of the next
step `mu_next` (equal to `mu` unless a schedule says otherwise), every form below is

    v <- mu v - lr g
    p <- p + mu_next v - lr g

in other variables.  `p` is the look-ahead point; Nesterov's iterate is `p - mu_next v`.  With two momenta this is
exactly Sutskever's method under his momentum schedule and exactly FISTA under its `t_k`.

======== ======================== ========================================== =========================================
name     state                    parameters                                 used by
======== ======================== ========================================== =========================================
torch    `b = mu b + g`           `p -= lr (g + mu_next b)`                  PyTorch, optax, Apex, TensorFlow 1
keras    `m = mu m - lr g`        `p += mu_next m - lr g`                    Keras, TensorFlow 2, scikit-learn, Lasagne
caffe    `h' = mu h + lr g`       `p -= (1+mu_next) h' - mu h`               Caffe, Deeplearning4j
bengio   `v' = mu v - lr g`       `p += mu_next mu v - (1+mu_next) lr g`     Optimisers.jl, MXNet
======== ======================== ========================================== =========================================

At constant `lr` the parameters agree (`b = -m/lr = h/lr`).  After a change of `lr` they do not: `keras`, `caffe` and
`bengio` carry the old rate in the state, which must be scaled by `lr_new/lr_old` to follow `torch`.

Roundings are pinned.  `torch` follows `torch.optim.SGD` on the CPU (`foreach` or not):
`b = rnd(rnd(mu b) + g)`, `p = fma(-lr, fma(mu, b, g), p)`; the others round every product and sum, as scikit-learn
and Keras do under NumPy.

With bounds or a proximal map the iterate is what goes through it: `x' = prox(p - lr g)`, and the velocity is its move,
`x' - x`, in the units of the form.  The look-ahead point is kept in the bounds, too (`kernels.proximal`).

References: Y. Nesterov, Soviet Math. Dokl. 27 (1983); I. Sutskever et al., ICML 2013; Y. Bengio et al.,
arXiv:1212.0901; A. Beck and M. Teboulle, SIAM J. Imaging Sci. 2 (2009).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numpy import ndarray

from ..kernels.jit import inlined, layer
from ..kernels.proximal import extrapolation
from ..kernels.rounding import div, fma, mul
from ..kernels.rule import Rule
from ..kernels.statuses import OK
from ..kernels.template import template
from ..validation import is_device_array
from ._dispatch import Ready, python_step
from ._overload import in_compiled_code
from .arrays import Arrays, Constants, Params, Scalar, State
from .average import Average
from .composed_arguments import Composition
from .conventions import (
    BENGIO,
    CAFFE,
    CONVENTIONS,
    KERAS,
    TORCH,
    Convention,
    bengio_update,
    caffe_update,
    keras_update,
    nesterov_update,
)
from .guard import Guard
from .optimizer import Method, Optimizer
from .storage import StochasticRounding

NO_DECAY, L2, DECOUPLED = range(3)


@inlined
def _constants(hyper: tuple[float, ...], T: Any, options: tuple[Any, ...]) -> Constants:
    lr, momentum, momentum_next, weight_decay = hyper
    shrink = 1.0 - mul(lr, weight_decay) if options[2] == DECOUPLED else weight_decay
    return T(lr), T(momentum), T(momentum_next), T(shrink)


@inlined
def _decayed(p: Scalar, g: Scalar, weight_decay: Scalar, decay: int, maximize: bool) -> tuple[Scalar, Scalar]:
    """The parameters and the gradient after weight decay."""
    if maximize:
        g = -g
    if decay == L2:
        if weight_decay != 0:  # it is 0 only where it was read from the memory of a device
            g = fma(weight_decay, p, g)
    elif decay == DECOUPLED:
        p = mul(weight_decay, p)
    return p, g


@inlined
def _update(
    p: Scalar, g: Scalar, state: tuple[Any, ...], constants: Constants, options: tuple[Any, ...]
) -> tuple[Scalar, tuple[Scalar, ...]]:
    convention, nesterov, decay, maximize = options
    lr, momentum, momentum_next, weight_decay = constants
    (v,) = state
    p, g = _decayed(p, g, weight_decay, decay, maximize)
    if convention == TORCH:
        p, v = nesterov_update(p, g, v, lr, momentum, momentum_next, nesterov)
    elif convention == KERAS:
        p, v = keras_update(p, g, v, lr, momentum, momentum_next, nesterov)
    elif convention == CAFFE:
        p, v = caffe_update(p, g, v, lr, momentum, momentum_next, nesterov)
    else:
        p, v = bengio_update(p, g, v, lr, momentum, momentum_next, nesterov)
    return p, (v,)


@template
def _update_by(form: Callable[..., Any]) -> Any:
    def update(p: Any, g: Any, state: Any, constants: Any, options: Any) -> Any:
        """`_update` in the form of one convention."""
        _, nesterov, decay, maximize = options
        lr, momentum, momentum_next, weight_decay = constants
        p, g = _decayed(p, g, weight_decay, decay, maximize)
        p, v = form(p, g, state[0], lr, momentum, momentum_next, nesterov)
        return p, (v,)

    return update


@functools.cache
def _update_of_convention(convention: int) -> Any:
    forms = {TORCH: nesterov_update, KERAS: keras_update, CAFFE: caffe_update, BENGIO: bengio_update}
    return inlined(_update_by.bind(form=forms[convention]))


@template
def _proximal(prox: Callable[..., Any], keep: Callable[..., Any]) -> Any:
    ahead = layer(extrapolation.bind(prox=prox, keep=keep))

    def proximal(p: Any, g: Any, state: Any, constants: Any, options: Any, values: Any) -> Any:
        """`_update` whose iterate goes through a map; elements that it leaves alone have the bits of `_update`."""
        convention, nesterov, decay, maximize = options
        lr, momentum, momentum_next, weight_decay = constants
        v, T = state[0], type(p)
        plain, after = _update(p, g, state, constants, options)
        p, g = _decayed(p, g, weight_decay, decay, maximize)
        if nesterov:
            iterate = fma(-lr, g, p)
            velocity = mul(-lr, v) if convention == TORCH else -v if convention == CAFFE else v
            before = p if momentum == 0 else fma(-momentum, velocity, p)
        else:
            iterate, before, momentum_next = plain, p, T(0)
        p, move, free = ahead(plain, iterate, before, momentum_next, values)
        if convention == TORCH:
            moved = mul(move, div(T(-1), lr) if lr != 0 else T(0))  # what does not move has no velocity
        else:
            moved = -move if convention == CAFFE else move
        return p, (after[0] if free else moved,)

    return proximal


RULE = Rule(
    name="nesterov",
    update=_update,
    constants=_constants,
    states=("vel",),
    hyper={"lr": 0.01, "momentum": 0.9, "momentum_next": 0.9, "weight_decay": 0.0},
    options={
        "convention": (TORCH, KERAS, CAFFE, BENGIO),
        "nesterov": (True, False),
        "decay": (NO_DECAY, L2, DECOUPLED),
        "maximize": (False, True),
    },
    tested=(1, 2),  # the momenta
    only=lambda options: _update_of_convention(options[0]),
    proximal=_proximal,
)


def step(
    params: Params,
    grads: Arrays,
    vel: State,
    lr: float = 0.01,
    momentum: float = 0.9,
    momentum_next: float | None = None,
    convention: Convention = "torch",
    nesterov: bool = True,
    weight_decay: float = 0.0,
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
    """One step of Nesterov's accelerated gradient, in place.

    With the gradient `g` at the stored parameters `p`, and `v` the velocity (in PyTorch's convention):

        v <- momentum v + g
        p <- p - lr (g + momentum_next v)

    Parameters
    ----------
    params : array
        The parameters, float32 or float64, any shape; modified in place.  Also a `FlatParams`, with others beside it.
        NumPy, anything with DLPack on the CPU (PyTorch), or with `__cuda_array_interface__` (Numba, CuPy, PyTorch).
        Also float16 and bfloat16 (on the host those of NumPy, `ml_dtypes` and PyTorch), contiguous.
        Or a list of arrays, with lists for the others: one launch steps all of them on a CUDA device.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    vel : array
        The velocity: the same again, zeros before the first step; modified in place.  None may share memory.
        Beside float16 or bfloat16 parameters: float32, or an `Int8State`.
    lr : float
        Learning rate, finite, >= 0.  `lr` and `weight_decay` may be arrays of the shape and place of `params`.
    momentum : float
        Finite, >= 0, usually below 1.  At 0 the step is gradient descent, to the last bit.
    momentum_next : float, optional
        The momentum of the next step, where a schedule changes it: with it the step is exactly Sutskever's method,
        or FISTA.  By default equal to `momentum`.
    convention : {"torch", "keras", "caffe", "bengio"}
        What `vel` holds; see `nagd_numba.optimizers.nesterov`.  At constant `lr` the parameters do not depend on it.
    nesterov : bool
        False for the heavy ball (classical momentum): `p <- p - lr v`.
    weight_decay : float
        `w`, finite, >= 0: adds `w p` to the gradient (an L2 penalty `w/2 |p|^2`).
    decoupled : bool
        Multiply `p` by `1 - lr w` before the step instead.
    maximize : bool
        Ascend instead of descend.
    stream : optional
        For CUDA arrays: a stream of Numba, CuPy, PyTorch or cuda.core (also a graph that is being built), or its
        handle, which waits for the streams that the arrays' interfaces name.  By default the current stream of the
        library that `params` is from (of Numba's arrays the one that they belong to); where the arrays are of several
        libraries, the streams wait for each other before and after the step.  The launch is asynchronous.
    master : array, optional
        Beside float16 or bfloat16 parameters: a float32 copy of them, which is what is updated (in place); `params`
        becomes that copy, rounded to nearest.
    guard : nagd_numba.Guard, optional
        Clips the gradient, divides it by a loss scale, skips the step where it is not finite; tells its norm, and its
        product with `vel`.

    rounding : nagd_numba.StochasticRounding, optional
        Round float16 or bfloat16 parameters by random bits, not to nearest.  An `Int8State` needs it.
    compensation : array, optional
        Beside float16 or bfloat16 parameters: what they lack, in their dtype, zeros at first; modified in place
        (Kahan's summation).  `params + compensation` is what is updated.
    mask : array, optional
        Of bool or uint8, of the shape of `params`: where it is 0 nothing is read and nothing written, also of `vel`.
        Or, on the host, the places of the elements to step, a vector of whole numbers, ascending.
    lower, upper : float or array, optional
        Bounds for the parameters, where the iterate and the look-ahead point stay (projected Nesterov).
    prox : {"l1", "scaled_l1", "nonneg", "box"} or function, optional
        A proximal map of the iterate: of `prox_weight |p|`, of bounds, or a compiled function `(x, lr) -> x`.
    prox_weight : float
        The weight of the norm, finite, >= 0.
    average : nagd_numba.Average or (array, weight), optional
        An average of the parameters, updated in the same pass.  Of an array it becomes `a + weight (params - a)`.
    groups : dict, or list of dicts, optional
        Settings for segments of a `FlatParams`, by name, prefix or pattern, or for each array of lists.

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
    Inside an `@njit` function (also with `parallel=True`, or in a `prange`) the same call compiles to a serial loop
    in the caller; `convention`, `nesterov`, `decoupled`, `maximize` and the name of a `prox` must be constants there,
    `average` is a pair (see `average_weight`), and there are no `groups`.  What the types tell is refused when
    compiling (numba's `TypingError`), the rest by a `ValueError` before any write; interleaved views of one array may
    be taken to overlap.  In a `prange` numba reports an exception as `SystemError`, and only of the calling thread: in
    the others `params`, the states and the average become NaN instead, and the next rows are stepped.
    Inside a `@cuda.jit` kernel use `nagd_numba.nesterov_update` on scalars.

    With CUDA arrays each hyper-parameter may be an array of one element on their device, of the dtype of `vel`.  It is
    read when the step runs, so that a captured graph follows what is written to it; the bits are those of the number.
    An unfit value there (negative, NaN) cannot raise: such a step changes nothing, and a `guard` tells so by `skipped`.
    Of an array of rates the elements with unfit ones stay as they are.

    References
    ----------
    Y. Nesterov, Soviet Math. Dokl. 27 (1983) 372; I. Sutskever et al., ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> target = np.array([3.0, -1.0])
    >>> params, vel = np.zeros(2), np.zeros(2)
    >>> for _ in range(300):
    ...     grads = 2 * (params - target)
    ...     _ = nagd_numba.step(params, grads, vel, lr=0.05, momentum=0.8)
    >>> params.round(6)
    array([ 3., -1.])
    """
    if momentum_next is None:
        momentum_next = momentum
    hyper = lr, momentum, momentum_next, weight_decay
    zero = weight_decay == 0.0 if weight_decay.__class__ is float else _is_zero(weight_decay)
    given = convention, nesterov, decoupled, maximize, zero
    composition = (
        None
        if mask is lower is upper is prox is prox_weight is groups is average is None
        else Composition(mask, lower, upper, prox, prox_weight, average, groups)
    )
    # The first lines of `_python_step`, whose call is a fifth of the time of a small step.
    unusual = composition is not None or stream is not None or master is not None or guard is not None
    if params.__class__ is ndarray and not unusual and rounding is None and compensation is None:
        try:
            if _ready[given](params, grads, (vel,), hyper) == OK:
                return params
        except (KeyError, TypeError):  # not met before, or what no dictionary takes
            pass
    _python_step(params, grads, (vel,), hyper, given, stream, master, guard, rounding, compensation, composition)
    return params


def _is_zero(x: Any) -> Any:
    """Is it 0?  What lies on a device, and an array of rates, is not looked at."""
    return False if is_device_array(x) or getattr(x, "shape", ()) != () else x == 0.0


@inlined
def _decay(decoupled: bool, zero: bool) -> int:
    return NO_DECAY if zero else DECOUPLED if decoupled else L2


OPTIMIZER = Optimizer(
    RULE,
    step,
    nesterov_update,
    choices={"convention": CONVENTIONS},
    follows={"momentum_next": "momentum"},
    derived={"decay": _decay},
    branch="weight_decay",
    c_name="nag_step",
    methods=(
        Method("gd", "gradient descent", hyper={"momentum": 0.0, "momentum_next": 0.0}, lr="lr"),
        Method(
            "momentum", "momentum", {"nesterov": False}, momentum="momentum", momentum_next="momentum_next", lr="lr"
        ),
        Method("nag", "Nesterov (nag)", momentum="momentum", momentum_next="momentum_next", lr="lr"),
    ),
)
_ready: Ready = {}
_python_step = python_step(OPTIMIZER, _ready)
in_compiled_code(OPTIMIZER)
