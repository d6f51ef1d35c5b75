"""`step`: Nesterov's accelerated gradient, from Python and from inside `@njit` functions."""

from __future__ import annotations

from numpy import ndarray

from . import arrays
from .apply import PARALLEL_FROM
from .callers import in_compiled_code
from .front import Ready, python_step
from .loops import OK
from .rules.nesterov import CONVENTIONS, DECOUPLED, L2, NO_DECAY, RULE
from .threads import parallel_allowed


def step(
    params,
    grads,
    vel,
    lr=0.01,
    momentum=0.9,
    momentum_next=None,
    convention="torch",
    nesterov=True,
    weight_decay=0.0,
    decoupled=False,
    maximize=False,
    stream=None,
    master=None,
    guard=None,
):
    """One step of Nesterov's accelerated gradient, in place.

    With the gradient `g` at the stored parameters `p`, and `v` the velocity (in PyTorch's convention):

        v <- momentum v + g
        p <- p - lr (g + momentum_next v)

    Parameters
    ----------
    params : array
        The parameters, float32 or float64, any shape; modified in place.
        NumPy, anything with DLPack on the CPU (PyTorch), or with `__cuda_array_interface__` (Numba, CuPy, PyTorch);
        on a CUDA device also float16 and bfloat16, contiguous.
        Or a list of arrays, with lists for the others: one launch steps all of them on a CUDA device.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    vel : array
        The velocity: the same again, zeros before the first step; modified in place.  None may share memory.
        Beside float16 or bfloat16 parameters: float32.
    lr : float
        Learning rate, finite, >= 0.
    momentum : float
        Finite, >= 0, usually below 1.  At 0 the step is gradient descent, to the last bit.
    momentum_next : float, optional
        The momentum of the next step, where a schedule changes it: with it the step is exactly Sutskever's method,
        or FISTA.  By default equal to `momentum`.
    convention : {"torch", "keras", "caffe", "bengio"}
        What `vel` holds; see `nagd_numba.rules.nesterov`.  At constant `lr` the parameters do not depend on it.
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
        handle.  By default the current stream of the library that `params` is from.  The launch is asynchronous.
    master : array, optional
        Beside float16 or bfloat16 parameters: a float32 copy of them, which is what is updated (in place); `params`
        becomes that copy, rounded to nearest.
    guard : nagd_numba.Guard, optional
        Clips the gradient, divides it by a loss scale, skips the step where it is not finite; tells its norm, and its
        product with `vel`.

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
    in the caller; `convention`, `nesterov`, `decoupled` and `maximize` must be constants there.  What the types tell is
    refused when compiling (numba's `TypingError`), the rest by a `ValueError` before any write (which numba reports as
    `SystemError` from a `prange`); interleaved views of one array may be taken to overlap.
    Inside a `@cuda.jit` kernel use `nagd_numba.nesterov_update` on scalars.

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
    given = convention, nesterov, decoupled, maximize, weight_decay == 0.0
    # The first lines of `_python_step`, whose call is a tenth of the time of a small step.
    if params.__class__ is grads.__class__ is vel.__class__ is ndarray and stream is master is guard is None:
        try:
            kernel = _ready[given, params.dtype, params.size >= PARALLEL_FROM and parallel_allowed()]
            if kernel(params, grads, (vel,), hyper) == OK:
                return params
        except (KeyError, TypeError):  # not met before, or not for this kernel
            pass
    _python_step(params, grads, (vel,), hyper, given, stream, master, guard)
    return params


def _options(convention, nesterov, decoupled, maximize, undecayed):
    index = arrays.choice("convention", convention, CONVENTIONS)
    nesterov, decoupled = arrays.flag("nesterov", nesterov), arrays.flag("decoupled", decoupled)
    decay = NO_DECAY if undecayed else DECOUPLED if decoupled else L2
    return index, nesterov, decay, arrays.flag("maximize", maximize)


_ready: Ready = {}
_python_step = python_step(RULE, _options, _ready)
in_compiled_code(
    step,
    RULE,
    fixed=("convention", "nesterov", "decoupled", "maximize"),
    options=_options,
    # The product unpacks an optional.
    hyper=lambda *_: {"momentum_next": "np.float64(momentum if momentum_next is None else 1.0 * momentum_next)"},
    decayed=True,
)
