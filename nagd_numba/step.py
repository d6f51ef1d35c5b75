"""`step`: Nesterov's accelerated gradient, from Python and from inside `@njit` functions."""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload
from numpy import ndarray

from . import arrays, loops
from .apply import PARALLEL_FROM
from .compile import callee, inlined
from .dispatch import update
from .rules.nesterov import CONVENTIONS, DECOUPLED, L2, NO_DECAY, RULE
from .threads import parallel_allowed

GPU = f"{__package__}.gpu.step"
# Kernels that `step` may call on plain arrays with no check of its own, by dtype and options.
_ready: dict[tuple, Any] = {}


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
    # numba's dispatcher takes any subclass, masked arrays too, for a plain array: only plain ones go its way.
    plain = params.__class__ is ndarray and grads.__class__ is ndarray and vel.__class__ is ndarray
    plain = plain and stream is None and master is None
    if plain:
        parallel = params.size >= PARALLEL_FROM and parallel_allowed()
        key = (params.dtype, parallel, convention, nesterov, decoupled, maximize, weight_decay == 0.0)
        try:
            if _ready[key](params, grads, (vel,), (lr, momentum, momentum_next, weight_decay)) == loops.OK:
                return params
        except (KeyError, TypeError):  # not met before, or not for this kernel
            pass
    kind = None
    if not plain:
        kind = (RULE.name, convention, nesterov, decoupled, maximize, weight_decay == 0.0)
        gpu = sys.modules.get(GPU)  # there once device arrays were stepped
        hyper = lr, momentum, momentum_next, weight_decay
        if gpu is not None and gpu.repeat((params, grads, vel, master), kind, hyper, stream):
            return params
    named = {"lr": lr, "momentum": momentum, "momentum_next": momentum_next, "weight_decay": weight_decay}
    options = _options(convention, nesterov, weight_decay, decoupled, maximize)
    kernel = update(RULE, params, grads, (vel,), named, options, stream, master, kind)
    if kernel is not None and plain:
        _ready[key] = kernel
    return params


def _options(convention, nesterov, weight_decay, decoupled, maximize):
    index = arrays.choice("convention", convention, CONVENTIONS)
    nesterov, decoupled = arrays.flag("nesterov", nesterov), arrays.flag("decoupled", decoupled)
    decay = NO_DECAY if weight_decay == 0 else DECOUPLED if decoupled else L2
    return index, nesterov, decay, arrays.flag("maximize", maximize)


@overload(step, prefer_literal=True)
def _overload_step(
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
):
    _check_types(params, grads, vel, stream, master)
    for name, kind in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
        _number(name, kind)
    if not _is_none(momentum_next):
        _number("momentum_next", momentum_next)
    fixed = [
        _constant(name, kind)
        for name, kind in (
            ("convention", convention),
            ("nesterov", nesterov),
            ("decoupled", decoupled),
            ("maximize", maximize),
        )
    ]
    kinds = (params, grads, vel)
    contiguous = all(kind.layout == "C" for kind in kinds)
    vector = _flattened if contiguous and params.ndim > 1 else _itself
    try:
        plain = decayed = _compiled_loop(contiguous, _options(fixed[0], fixed[1], 0.0, fixed[2], fixed[3]))
        if not isinstance(weight_decay, types.Omitted):
            decayed = _compiled_loop(contiguous, _options(fixed[0], fixed[1], 1.0, fixed[2], fixed[3]))
    except (TypeError, ValueError) as error:
        raise TypingError(f"nagd_numba.step: {error}") from error

    def compiled_step(
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
    ):
        if params.shape != grads.shape:
            raise ValueError("nagd_numba.step: grads must have the shape of params")
        if params.shape != vel.shape:
            raise ValueError("nagd_numba.step: vel must have the shape of params")
        after = momentum if momentum_next is None else 1.0 * momentum_next  # unpacks an optional
        hyper = (np.float64(lr), np.float64(momentum), np.float64(after), np.float64(weight_decay))
        if weight_decay == 0:
            status = plain(vector(params), vector(grads), (vector(vel),), hyper)
        else:
            status = decayed(vector(params), vector(grads), (vector(vel),), hyper)
        if status == loops.OVERLAP:
            raise ValueError("nagd_numba.step: params, grads and vel must not overlap in memory: pass copies")
        if status == loops.HYPER:
            if not (lr >= 0 and lr < np.inf):
                raise ValueError("nagd_numba.step: lr must be finite and >= 0")
            if not (momentum >= 0 and momentum < np.inf):
                raise ValueError("nagd_numba.step: momentum must be finite and >= 0")
            if not (after >= 0 and after < np.inf):
                raise ValueError("nagd_numba.step: momentum_next must be finite and >= 0")
            if not (weight_decay >= 0 and weight_decay < np.inf):
                raise ValueError("nagd_numba.step: weight_decay must be finite and >= 0")
            raise ValueError("nagd_numba.step: lr, momentum or weight_decay leave the range of the arrays' dtype")
        return params

    return compiled_step


@functools.cache
def _compiled_loop(contiguous, options):
    """The rule's loop for a caller's arrays, serial: it may stand inside the caller's `prange`."""
    rule = loops.bindings(RULE, options)
    if contiguous:
        return callee(loops.contiguous, **rule)
    return callee(loops.strided_checked, strided=callee(loops.strided, **rule))


@inlined
def _itself(array):
    return array


@inlined
def _flattened(array):
    return array.reshape(-1)


def _check_types(params, grads, vel, stream, master):
    for name, kind in (("params", params), ("grads", grads), ("vel", vel)):
        if not isinstance(kind, types.Array) or kind.dtype not in (types.float32, types.float64):
            raise TypingError(f"nagd_numba.step: {name} is {kind}; an array of float32 or float64 is needed")
        if kind.dtype != params.dtype or kind.ndim != params.ndim:
            raise TypingError(
                f"nagd_numba.step: {name} is {kind} and params {params}; one dtype and number of dimensions is needed"
            )
        if name != "grads" and not kind.mutable:
            raise TypingError(f"nagd_numba.step: {name} is read-only and would be updated in place")
    if not _is_none(stream):
        raise TypingError("nagd_numba.step: stream is for CUDA arrays, called from Python")
    if not _is_none(master):
        raise TypingError("nagd_numba.step: master is for CUDA arrays of half precision, called from Python")


def _number(name, kind):
    value = kind.value if isinstance(kind, types.Omitted) else kind
    if isinstance(value, types.Optional):
        value = value.type
    known = types.unliteral(value) if isinstance(value, types.Type) else value
    if not isinstance(known, types.Integer | types.Float | types.Boolean | float):
        raise TypingError(f"nagd_numba.step: {name} is {kind}; a number is needed")


def _is_none(kind):
    return kind is None or isinstance(kind, types.NoneType) or (isinstance(kind, types.Omitted) and kind.value is None)


def _constant(name, kind):
    if isinstance(kind, types.Type) and not isinstance(kind, types.Literal | types.Omitted):
        raise TypingError(f"nagd_numba.step: {name} must be a constant inside compiled code, got {kind}")
    if isinstance(kind, types.Literal):
        return kind.literal_value
    return kind.value if isinstance(kind, types.Omitted) else kind
