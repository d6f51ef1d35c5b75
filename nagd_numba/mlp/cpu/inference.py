"""The kernels on the CPU: outputs, loss and gradient of a network on one flat vector of parameters.

Depth and sizes are arguments: one compilation serves every network of a dtype, activation and loss.  Each kernel
compiles for its options when first asked, is cached on disk, and can be called from compiled code as well.  Every
order of summation is fixed (see `tile`): equal inputs give equal bits, on any number of threads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange, types
from numba.np.numpy_support import from_dtype

from ...kernels.jit import callee, cpu_kernel
from ..losses import LOSSES
from . import losses, specialize
from .microkernel import ROWS

# Bound below.
forward_rows: Any = None
backward_rows: Any = None
gradients_share: Any = None
output: Any = None
allowed: Any = None
penalty: Any = None
space: Any = None
LABELS: Any = None
BUFFER: Any = None
COLUMNS: Any = None

ROWS_AT_ONCE = 64  # of `forward`: their activations stay in the cache, and threads share the work by them

_SIZES = types.Array(types.int64, 1, "C", readonly=True)
_RESULT = types.Tuple((types.float64, types.int64))


@functools.cache
def forward_kernel(dtype: str, activation: str, parallel: bool = False) -> Callable:
    """`kernel(params, X, sizes, out)`: the outputs of the last layer, without dropout.

    `X`, `y` and `out` are C-contiguous matrices of the dtype of `params` (`y` of cross entropy: int64, one label a
    row), `sizes` is int64.
    """
    vector, matrix, written = _array_types(dtype)
    part = callee(
        forward_part,
        forward_rows=specialize.forward_rows(dtype, activation, False),
        widths=callee(widths),
        space=callee(space_),
        **_sizes(dtype),
    )
    name = f"mlp_forward_{activation}_{dtype}"
    return cpu_kernel(forward, name, types.void(vector, matrix, _SIZES, written), parallel, forward_part=part)


@functools.cache
def value_kernel(dtype: str, activation: str, loss: str) -> Callable:
    """`kernel(params, X, y, sizes, l2) -> (loss, bad)`: the mean loss with its penalty.

    `bad` is the first row whose target is not allowed, or -1.
    """
    vector, matrix, _ = _array_types(dtype)
    return cpu_kernel(
        value,
        f"mlp_value_{activation}_{loss}_{dtype}",
        _RESULT(vector, matrix, _target_type(loss, matrix), _SIZES, types.float64),
        forward_rows=specialize.forward_rows(dtype, activation, False),
        **_common(dtype, loss),
    )


@functools.cache
def gradient_kernel(dtype: str, activation: str, loss: str, dropout: bool) -> Callable:
    """`kernel(params, X, y, grads, sizes, l2, seed, threshold, keep) -> (loss, bad)`; the gradient goes to `grads`.

    With a bad row nothing is written.  Without `dropout`, `seed`, `threshold` and `keep` have no effect.
    """
    vector, matrix, _ = _array_types(dtype)
    grads = vector.copy(readonly=False)
    return cpu_kernel(
        gradient,
        f"mlp_gradient_{activation}_{loss}_{'dropout' if dropout else 'plain'}_{dtype}",
        _RESULT(
            *(vector, matrix, _target_type(loss, matrix), grads),
            *(_SIZES, types.float64, types.uint64, types.uint64, types.float64),
        ),
        forward_rows=specialize.forward_rows(dtype, activation, dropout),
        backward_rows=specialize.backward_rows(dtype, activation, dropout),
        gradients_share=specialize.gradients_share(dtype),
        **_common(dtype, loss),
    )


@functools.cache
def probability_kernel(dtype: str, loss: str) -> Callable:
    """`kernel(z)`: softmax of each row, or the sigmoid of each element, in place."""
    parts: dict[str, Any] = {}
    template = losses.sigmoids
    if LOSSES[loss].labels:
        template = losses.softmax_rows
        parts = specialize.shared(losses.shift_rows, losses.exponentials)
    return cpu_kernel(template, f"mlp_{template.__name__}_{dtype}", types.void(_array_types(dtype)[2]), **parts)


def _common(dtype: str, loss: str) -> dict[str, Any]:
    return {
        "output": specialize.output(loss),
        "allowed": specialize.allowed(loss),
        "penalty": specialize.penalty(),
        "space": callee(space_),
        "widths": callee(widths),
        "LABELS": LOSSES[loss].labels,
        **_sizes(dtype),
    }


def _sizes(dtype: str) -> dict[str, int]:
    return {"BUFFER": specialize.buffer_sizes(dtype, 0)[0], "COLUMNS": specialize.columns(dtype)}


def _array_types(dtype: str) -> tuple[Any, Any, Any]:
    """A vector and a matrix that are read, and a matrix that is written."""
    scalar = from_dtype(np.dtype(dtype))
    # Kernels declared for read-only arrays accept both kinds.
    vector, matrix = (types.Array(scalar, n, "C", readonly=True) for n in (1, 2))
    return vector, matrix, types.Array(scalar, 2, "C")


def _target_type(loss: str, matrix: Any) -> Any:
    return types.Array(types.int64, 1, "C", readonly=True) if LOSSES[loss].labels else matrix


def space_(size, like):
    """`size` elements of the dtype of `like`, where vectors begin at a line of the cache."""
    block = np.empty(size + 64 // like.itemsize, like.dtype)
    start = -block.ctypes.data % 64 // like.itemsize
    return block[start : start + size]


def forward(params, X, sizes, out):
    """Write the outputs of the last layer to `out`."""
    parts = (X.shape[0] + ROWS_AT_ONCE - 1) // ROWS_AT_ONCE
    for part in prange(parts):
        forward_part(params, X, sizes, out, part * ROWS_AT_ONCE)


def forward_part(params, X, sizes, out, first):
    """The rows from `first` on."""
    rows = min(ROWS_AT_ONCE, X.shape[0] - first)
    hidden_width, widest = widths(sizes)
    hidden = space(rows * hidden_width, params)
    buffer, panel = space(BUFFER, params), space((widest + ROWS) * COLUMNS, params)
    x, z = X[first : first + rows].reshape(rows * sizes[0]), out[first : first + rows].reshape(rows * sizes[-1])
    zero = np.uint64(0)
    forward_rows(params, x, sizes, rows, hidden, z, 0, rows, buffer, panel, zero, zero, 1.0)


def value(params, X, y, sizes, l2):
    """The mean loss, without dropout, with the penalty."""
    rows, outputs = X.shape[0], sizes[-1]
    bad = allowed(y, outputs)
    if bad >= 0:
        return 0.0, bad
    hidden_width, widest = widths(sizes)
    buffer, panel = space(BUFFER, params), space((widest + ROWS) * COLUMNS, params)
    parts = min(rows, ROWS_AT_ONCE)
    hidden, z, delta = (
        space(parts * hidden_width, params),
        space(parts * outputs, params),
        space(parts * outputs, params),
    )
    losses = np.empty(parts)
    zero = np.uint64(0)
    count = rows if LABELS else rows * outputs
    total = 0.0
    for first in range(0, rows, ROWS_AT_ONCE):
        part = min(ROWS_AT_ONCE, rows - first)
        x = X[first : first + part].reshape(part * sizes[0])
        forward_rows(params, x, sizes, part, hidden, z, 0, part, buffer, panel, zero, zero, 1.0)
        z2, delta2 = z[: part * outputs].reshape((part, outputs)), delta[: part * outputs].reshape((part, outputs))
        output(z2, y[first : first + part], delta2, losses, params.dtype.type(1))
        for i in range(part):
            total += losses[i]
    loss = total / count
    if l2 != 0:
        loss += penalty(params, sizes, l2, np.empty(64))
    return loss, bad


def gradient(params, X, y, grads, sizes, l2, seed, threshold, keep):
    """The mean loss with the penalty; its gradient goes to `grads`."""
    T = params.dtype.type
    rows, outputs = X.shape[0], sizes[-1]
    bad = allowed(y, outputs)
    if bad >= 0:
        return 0.0, bad
    hidden_width, widest = widths(sizes)
    buffer, panel = space(BUFFER, params), space((max(widest, rows) + ROWS) * COLUMNS, params)
    hidden, z = space(rows * hidden_width, params), space(rows * outputs, params)
    deltas = space(rows * (hidden_width + outputs), params)
    losses = np.empty(rows)
    x = X.reshape(X.size)
    forward_rows(params, x, sizes, rows, hidden, z, 0, rows, buffer, panel, seed, threshold, keep)
    count = rows if LABELS else rows * outputs
    delta = deltas[rows * hidden_width :].reshape((rows, outputs))
    output(z.reshape((rows, outputs)), y, delta, losses, T(1.0 / count))
    loss = 0.0
    for i in range(rows):
        loss += losses[i]
    loss /= count
    if l2 != 0:
        loss += penalty(params, sizes, l2, np.empty(64))
    backward_rows(params, sizes, rows, hidden, deltas, 0, rows, buffer, panel, seed, threshold, keep)
    one = np.ones(1, params.dtype)
    gradients_share(params, x, one, sizes, rows, hidden, deltas, 0, 1, buffer, panel, T(l2), grads, False)
    return loss, bad


def widths(sizes):
    """The widths of all hidden layers together, and the largest width."""
    hidden, widest = 0, sizes[0]
    for layer in range(1, sizes.size):
        if layer < sizes.size - 1:
            hidden += sizes[layer]
        widest = max(widest, sizes[layer])
    return hidden, widest
