"""Outputs, loss and gradient of a network on one flat vector of parameters, for calls from Python.

Depth and sizes are arguments, and so are the addresses of the functions that depend on the activation and the loss
(`Functions`): one kernel serves every network of a dtype.  Every order of summation is fixed (see `microkernel`): equal
inputs give equal bits, on any number of threads.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels import reductions
from ...kernels.jit import inlined, kernel, subroutine
from ...kernels.linking import Interface, Linked, linked
from ...kernels.parallel import BODY, in_parallel, one_after_another, parallel_for
from ...kernels.pointers import address, as_integer, keep_alive, pointer, restorer, shifted, spill
from ...kernels.template import template
from ..losses import LOSSES
from . import backprop, gemm, losses
from .microkernel import ROWS, tile

ROWS_AT_ONCE = 64  # of `forward`: their activations stay in the cache, and threads share the work by them


@inlined
def widths(sizes, layers):
    """The widths of all hidden layers together, and the largest width."""
    hidden, widest = 0, sizes[0]
    for layer in range(1, layers + 1):
        if layer < layers:
            hidden += sizes[layer]
        widest = max(widest, sizes[layer])
    return hidden, widest


@inlined
def aligned(size, dtype):
    """`size` elements that begin at a line of the cache."""
    block = np.empty(size + 16, dtype)  # 64 bytes or more too many
    start = -address(block) % 64 // block.itemsize
    return block[start : start + size]


@template
def penalty(sum_of_squares):
    """`l2/2` times the sum of the squared weights."""

    def penalty(params, sizes, layers, l2, lanes):
        squares, start = 0.0, 0
        for layer in range(layers):
            end = start + sizes[layer] * sizes[layer + 1]
            squares += sum_of_squares(params, start, end, lanes)
            start = end + sizes[layer + 1]
        return 0.5 * l2 * squares

    return penalty


@template
def forward(run):
    """Write the outputs of the last layer to `out`."""

    def forward(params, X, sizes, out, functions):
        rows, layers = np.int64(X.shape[0]), np.int64(sizes.size - 1)
        context = spill((functions, pointer(params), pointer(X), pointer(sizes), layers, rows, pointer(out)))
        run(context, (rows + ROWS_AT_ONCE - 1) // ROWS_AT_ONCE)

    return forward


@template
def forward_part(forward_rows, restore, T, BUFFER, COLUMNS):
    def forward_part(context, part):
        functions, params, X, sizes, layers, rows, out = restore(context)
        first = part * ROWS_AT_ONCE
        count = min(ROWS_AT_ONCE, rows - first)
        width, widest = widths(sizes, layers)
        hidden = aligned(count * width, T)
        buffer, panel = aligned(BUFFER, T), aligned((widest + ROWS) * COLUMNS, T)
        x, z = shifted(X, first * sizes[0]), shifted(out, first * sizes[layers])
        forward_rows(
            *(functions, params, x, sizes, layers, count, pointer(hidden), z, 0, count),
            *(pointer(buffer), pointer(panel), (np.uint64(0), np.uint64(0), 1.0)),
        )
        keep_alive(hidden, buffer, panel)

    return forward_part


@template
def value(forward_rows, loss_function, allowed, penalty, T, BUFFER, COLUMNS, LABELS):
    """The mean loss, without dropout, with the penalty."""

    def value(params, X, y, sizes, l2, functions):
        rows, layers = X.shape[0], sizes.size - 1
        outputs = sizes[layers]
        bad = allowed(functions[2], pointer(y), rows, outputs)
        if bad >= 0:
            return 0.0, bad
        dims = pointer(sizes)
        width, widest = widths(dims, layers)
        buffer, panel = aligned(BUFFER, T), aligned((widest + ROWS) * COLUMNS, T)
        parts = min(rows, ROWS_AT_ONCE)
        hidden, z, delta = aligned(parts * width, T), aligned(parts * outputs, T), aligned(parts * outputs, T)
        sums = np.empty(parts)
        total = 0.0
        for first in range(0, rows, ROWS_AT_ONCE):
            part = min(ROWS_AT_ONCE, rows - first)
            forward_rows(
                *((functions[0], functions[1]), pointer(params), shifted(pointer(X), first * sizes[0]), dims, layers),
                *(part, pointer(hidden), pointer(z), 0, part, pointer(buffer), pointer(panel)),
                (np.uint64(0), np.uint64(0), 1.0),
            )
            targets = as_integer(shifted(pointer(y), first if LABELS else first * outputs))
            loss_function(functions[3], pointer(z), targets, pointer(delta), pointer(sums), 0, part, outputs, T(1))
            for i in range(part):
                total += sums[i]
        loss = total / (rows if LABELS else rows * outputs)
        lanes = np.empty(reductions.LANES)
        if l2 != 0:
            loss += penalty(pointer(params), dims, layers, l2, pointer(lanes))
        keep_alive(buffer, panel, hidden, z, delta, sums, lanes)
        return loss, bad

    return value


@template
def gradient(forward_rows, backward_rows, weights_share, loss_function, allowed, penalty, T, BUFFER, COLUMNS, LABELS):
    """The mean loss with the penalty; its gradient goes to `grads`."""

    def gradient(params, X, y, grads, sizes, l2, dropout, functions):
        rows, layers = X.shape[0], sizes.size - 1
        outputs = sizes[layers]
        bad = allowed(functions[2], pointer(y), rows, outputs)
        if bad >= 0:
            return 0.0, bad
        p, x, dims = pointer(params), pointer(X), pointer(sizes)
        width, widest = widths(dims, layers)
        buffer, panel = aligned(BUFFER, T), aligned((max(widest, rows) + ROWS) * COLUMNS, T)
        hidden, z = aligned(rows * width, T), aligned(rows * outputs, T)
        deltas, sums, one, lanes = aligned(rows * (width + outputs), T), np.empty(rows), np.ones(1, T), np.empty(64)
        h, d, b, q = pointer(hidden), pointer(deltas), pointer(buffer), pointer(panel)
        forward_rows((functions[0], functions[1]), p, x, dims, layers, rows, h, pointer(z), 0, rows, b, q, dropout)
        count = rows if LABELS else rows * outputs
        loss_function(
            *(functions[3], pointer(z), as_integer(pointer(y)), shifted(d, rows * width)),
            *(pointer(sums), 0, rows, outputs, T(1.0 / count)),
        )
        loss = 0.0
        for i in range(rows):
            loss += sums[i]
        loss /= count
        if l2 != 0:
            loss += penalty(p, dims, layers, l2, pointer(lanes))
        backward_rows(functions[4], p, params.size, dims, layers, rows, width, h, d, 0, rows, b, q, dropout)
        weights_share(
            *(functions[5], p, params.size, x, pointer(one), dims, layers, rows, h, d, 0, 1, b, q),
            (pointer(grads), T(l2), False, pointer(one)),
        )
        keep_alive(buffer, panel, hidden, z, deltas, sums, one, lanes)
        return loss, bad

    return gradient


_SIZES = types.Array(types.int64, 1, "C", readonly=True)
_RESULT = types.Tuple((types.float64, types.int64))
_DROPOUT = types.Tuple((types.uint64, types.uint64, types.float64))


def _functions(count: int) -> types.Type:
    return types.UniTuple(types.int64, count)


def _array_types(dtype: str) -> tuple[Any, Any, Any]:
    """A vector and a matrix that are read, and a matrix that is written."""
    scalar = from_dtype(np.dtype(dtype))
    # Kernels declared for read-only arrays accept both kinds.
    vector, matrix = (types.Array(scalar, n, "C", readonly=True) for n in (1, 2))
    return vector, matrix, types.Array(scalar, 2, "C")


def scratch(dtype: str) -> dict[str, Any]:
    """The slots that say how large the memory of one thread is."""
    columns = tile(dtype).columns
    return {"T": np.dtype(dtype).type, "BUFFER": 3 * ROWS * columns, "COLUMNS": columns}


@functools.cache
def penalty_function(dtype: str) -> Linked:
    """`penalty(params, sizes, layers, l2, lanes)`."""
    n, real = types.int64, types.CPointer(types.float64)
    x = types.CPointer(from_dtype(np.dtype(dtype)))
    interface = Interface(types.float64(x, types.CPointer(n), n, types.float64, real))
    return linked(penalty.bind(sum_of_squares=reductions.squares_function(dtype).call), interface)


@functools.cache
def forward_functions(dtype: str, activation: str) -> tuple[Any, Any]:
    """The addresses of the products of hidden layers and of the last layer."""
    return gemm.forward_product(dtype, activation).address, gemm.forward_product(dtype, "identity").address


@functools.cache
def value_functions(dtype: str, activation: str, loss: str) -> tuple[Any, ...]:
    """Those, what tells whether targets are allowed, and the loss."""
    return (
        *forward_functions(dtype, activation),
        losses.targets_function(dtype, loss).address,
        losses.loss_function(dtype, loss).address,
    )


@functools.cache
def gradient_functions(dtype: str, activation: str, loss: str) -> tuple[Any, ...]:
    """Those, and the products that make the deltas and the gradient."""
    return (
        *value_functions(dtype, activation, loss),
        gemm.backward_product(dtype, activation).address,
        gemm.gradient_product(dtype).address,
    )


@functools.cache
def forward_kernel(dtype: str, parallel: bool = False) -> Linked:
    """`(params, X, sizes, out, forward_functions)`: the outputs of the last layer, without dropout.

    `X`, `y` and `out` are C-contiguous matrices of the dtype of `params` (`y` of labels: int64, one a row), `sizes` is
    int64.
    """
    vector, matrix, written = _array_types(dtype)
    x = types.CPointer(from_dtype(np.dtype(dtype)))
    context = (_functions(2), x, x, types.CPointer(types.int64), types.int64, types.int64, x)
    part = forward_part.bind(
        forward_rows=backprop.forward(dtype).call, restore=restorer(types.Tuple(context)), **scratch(dtype)
    )
    body = linked(part, BODY)
    if parallel:
        run = in_parallel.bind(body=body.locate, parallel_for=parallel_for().call)
    else:
        run = one_after_another.bind(body=body.call)
    interface = Interface(types.void(vector, matrix, _SIZES, written, _functions(2)))
    return linked(forward.bind(run=subroutine(run)), interface, from_python=True)


@functools.cache
def value_kernel(dtype: str, labels: bool) -> Any:
    """`kernel(params, X, y, sizes, l2, value_functions) -> (loss, bad)`: the mean loss with its penalty.

    `bad` is the first row whose target is not allowed, or -1.
    """
    vector, matrix, _ = _array_types(dtype)
    bound = value.bind(
        forward_rows=backprop.forward(dtype).call,
        loss_function=losses.interface(dtype).call,
        allowed=losses.targets_interface(dtype, labels).call,
        penalty=penalty_function(dtype).call,
        LABELS=labels,
        **scratch(dtype),
    )
    targets = types.Array(types.int64, 1, "C", readonly=True) if labels else matrix
    return kernel(bound, _RESULT(vector, matrix, targets, _SIZES, types.float64, _functions(4)))


@functools.cache
def gradient_kernel(dtype: str, labels: bool) -> Any:
    """`kernel(params, X, y, grads, sizes, l2, (seed, threshold, keep), gradient_functions) -> (loss, bad)`.

    The gradient goes to `grads`.  With a bad row nothing is written.  A threshold of 0 is no dropout.
    """
    vector, matrix, _ = _array_types(dtype)
    bound = gradient.bind(
        forward_rows=backprop.forward(dtype).call,
        backward_rows=backprop.backward(dtype).call,
        weights_share=backprop.weights(dtype).call,
        loss_function=losses.interface(dtype).call,
        allowed=losses.targets_interface(dtype, labels).call,
        penalty=penalty_function(dtype).call,
        LABELS=labels,
        **scratch(dtype),
    )
    targets = types.Array(types.int64, 1, "C", readonly=True) if labels else matrix
    grads = vector.copy(readonly=False)
    given = (vector, matrix, targets, grads, _SIZES, types.float64, _DROPOUT, _functions(6))
    return kernel(bound, _RESULT(*given))


# A kernel and the functions that a network needs in it, looked up at once: a call of a small network is short.


@functools.cache
def forward_of(dtype: str, activation: str, parallel: bool) -> tuple[Any, tuple[Any, ...]]:
    """`forward_kernel` and `forward_functions`."""
    return forward_kernel(dtype, parallel).kernel, forward_functions(dtype, activation)


@functools.cache
def value_of(dtype: str, activation: str, loss: str) -> tuple[Any, tuple[Any, ...]]:
    """`value_kernel` and `value_functions`."""
    return value_kernel(dtype, LOSSES[loss].labels), value_functions(dtype, activation, loss)


@functools.cache
def gradient_of(dtype: str, activation: str, loss: str) -> tuple[Any, tuple[Any, ...]]:
    """`gradient_kernel` and `gradient_functions`."""
    return gradient_kernel(dtype, LOSSES[loss].labels), gradient_functions(dtype, activation, loss)
