"""Outputs, loss and gradient of a network on one flat vector of parameters, for calls from Python.

Depth and sizes are arguments, and so are the addresses of the functions that depend on the activation and the loss:
one kernel serves every network of a dtype.  Every order of summation is fixed (see `microkernel`): equal
inputs give equal bits, on any number of threads.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels import reductions
from ...kernels.forms import Forms, run_shares
from ...kernels.jit import inlined, kernel, subroutine
from ...kernels.linking import Interface, Linked, linked
from ...kernels.parallel import BODY
from ...kernels.pointers import address, as_integer, keep_alive, pointer, restorer, shifted, spill
from ...kernels.template import template
from ..losses import LOSSES
from . import backprop, epilogues, losses
from .gemm import panels_size_of
from .microkernel import ROWS, tile

# Rows that are taken through all layers together, by one thread: their activations stay in the cache.  More of them
# where the weights do not, which are packed each time.
ROWS_AT_ONCE, MORE_ROWS = 64, 256
MANY_WEIGHTS = 1 << 18


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


@inlined
def line(size):
    """`size` elements rounded up to whole lines of the cache."""
    return (size + 15) // 16 * 16  # of float32; twice as many of float64


@inlined
def rows_together(rows, size):
    """How many of the rows are taken through a network with so many parameters together: parts of one size."""
    most = ROWS_AT_ONCE if size < MANY_WEIGHTS else MORE_ROWS
    parts = max(1, (rows + most - 1) // most)
    return max(1, (rows + parts - 1) // parts)


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
def forward(locate):
    """Write the outputs of the last layer to `out`; `function` is the product of the layers."""

    def forward(params, X, sizes, out, function, forms):
        rows, layers = np.int64(X.shape[0]), np.int64(sizes.size - 1)
        together = rows_together(rows, params.size)
        context = spill((function, pointer(params), pointer(X), pointer(sizes), layers, rows, together, pointer(out)))
        flop = 2 * rows * params.size
        run_shares(locate(), context, (rows + together - 1) // together, flop, forms)

    return forward


@template
def forward_part(forward_rows, restore, T, BUFFER, panels_size):
    def forward_part(context, part):
        function, params, X, sizes, layers, rows, together, out = restore(context)
        first = part * together
        count = min(together, rows - first)
        width, widest = widths(sizes, layers)
        panel, hidden = line(BUFFER), line(BUFFER) + line(panels_size(count, widest))
        memory = aligned(hidden + count * width, T)
        here = pointer(memory)
        x, z = shifted(X, first * sizes[0]), shifted(out, first * sizes[layers])
        forward_rows(
            *(function, params, x, sizes, layers, count, shifted(here, hidden), z, 0, count, here),
            *(shifted(here, panel), (np.uint64(0), np.uint64(0), 1.0), 0),
        )
        keep_alive(memory)

    return forward_part


@template
def value(forward_rows, loss_function, allowed, penalty, T, BUFFER, panels_size, LABELS):
    """The mean loss, without dropout, with the penalty."""

    def value(params, X, y, sizes, l2, terms, functions):
        forward_product, targets_allowed, loss_of, penalty_of = functions
        rows, layers = X.shape[0], sizes.size - 1
        outputs, dims = sizes[layers], pointer(sizes)
        bad = allowed(targets_allowed, pointer(y), rows, outputs)
        if bad >= 0:
            return 0.0, bad
        width, widest = widths(dims, layers)
        parts = min(rows, ROWS_AT_ONCE)
        panel, hidden = line(BUFFER), line(BUFFER) + line(panels_size(min(rows, ROWS_AT_ONCE), widest))
        z = hidden + line(parts * width)
        delta = z + line(parts * outputs)
        memory, sums = aligned(delta + parts * outputs, T), np.empty(max(parts, reductions.LANES))
        here = pointer(memory)
        total = 0.0
        for first in range(0, rows, ROWS_AT_ONCE):
            part = min(ROWS_AT_ONCE, rows - first)
            forward_rows(
                *(forward_product, pointer(params), shifted(pointer(X), first * sizes[0]), dims, layers, part),
                *(shifted(here, hidden), shifted(here, z), 0, part, here, shifted(here, panel)),
                *((np.uint64(0), np.uint64(0), 1.0), 0),
            )
            targets = as_integer(shifted(pointer(y), first if LABELS else first * outputs))
            loss_function(
                *(loss_of, shifted(here, z), targets, shifted(here, delta), pointer(sums), 0, part),
                *(outputs, T(1)),
            )
            for i in range(part):
                total += sums[i]
        loss = total / (rows * terms)
        if l2 != 0:
            loss += penalty(penalty_of, pointer(params), dims, layers, l2, pointer(sums))
        keep_alive(memory, sums)
        return loss, bad

    return value


@template
def gradient(forward_rows, backward_rows, weights_share, loss_function, allowed, penalty, T, BUFFER, panels_size):
    """The mean loss with the penalty; its gradient goes to `grads`."""

    def gradient(params, X, y, grads, sizes, l2, terms, dropout, functions):
        forward_product, targets_allowed, loss_of, penalty_of, backward_product, gradient_product = functions
        rows, layers = X.shape[0], sizes.size - 1
        outputs, dims = sizes[layers], pointer(sizes)
        bad = allowed(targets_allowed, pointer(y), rows, outputs)
        if bad >= 0:
            return 0.0, bad
        p, x = pointer(params), pointer(X)
        width, widest = widths(dims, layers)
        panel, hidden = line(BUFFER), line(BUFFER) + line(panels_size(rows, widest))
        z = hidden + line(rows * width)
        deltas = z + line(rows * outputs)
        memory, sums = aligned(deltas + rows * (width + outputs) + 1, T), np.empty(max(rows, reductions.LANES))
        b = pointer(memory)
        q, h, d = shifted(b, panel), shifted(b, hidden), shifted(b, deltas)
        one = shifted(d, rows * (width + outputs))
        one[0] = T(1)
        forward_rows(forward_product, p, x, dims, layers, rows, h, shifted(b, z), 0, rows, b, q, dropout, 0)
        count = rows * terms
        loss_function(
            *(loss_of, shifted(b, z), as_integer(pointer(y)), shifted(d, rows * width)),
            *(pointer(sums), 0, rows, outputs, T(1.0 / count)),
        )
        loss = 0.0
        for i in range(rows):
            loss += sums[i]
        loss /= count
        if l2 != 0:
            loss += penalty(penalty_of, p, dims, layers, l2, pointer(sums))
        backward_rows(backward_product, p, params.size, dims, layers, rows, width, h, d, 0, rows, b, q, dropout)
        weights_share(
            *(gradient_product, p, params.size, x, one, dims, layers, rows, h, d, 0, 1, b, q),
            *((pointer(grads), T(l2), False, one), 0),
        )
        keep_alive(memory, sums)
        return loss, bad

    return gradient


SIZES = types.Array(types.int64, 1, "C", readonly=True)
_RESULT = types.Tuple((types.float64, types.int64))
_DROPOUT = types.Tuple((types.uint64, types.uint64, types.float64))


def _array_types(dtype: str) -> tuple[Any, Any, Any]:
    """A vector and a matrix that are read, and a matrix that is written."""
    scalar = from_dtype(np.dtype(dtype))
    # Kernels declared for read-only arrays accept both kinds.
    vector, matrix = (types.Array(scalar, n, "C", readonly=True) for n in (1, 2))
    return vector, matrix, types.Array(scalar, 2, "C")


def scratch(dtype: str) -> dict[str, Any]:
    """The slots that say how large the memory of one thread is."""
    buffer = epilogues.TILES * ROWS * tile(dtype).columns
    return {"T": np.dtype(dtype).type, "BUFFER": buffer, "panels_size": subroutine(panels_size_of(dtype))}


@functools.cache
def penalty_interface(dtype: str) -> Interface:
    """params, sizes, layers, l2, memory for `reductions.LANES` numbers."""
    n, real = types.int64, types.CPointer(types.float64)
    x = types.CPointer(from_dtype(np.dtype(dtype)))
    return Interface(types.float64(x, types.CPointer(n), n, types.float64, real))


@functools.cache
def penalty_function(dtype: str) -> Linked:
    """`penalty`."""
    return linked(penalty.bind(sum_of_squares=reductions.squares_function(dtype).call), penalty_interface(dtype))


@functools.cache
def forward_kernel(dtype: str) -> Linked:
    """`(params, X, sizes, out, product, forms)`: the outputs of the last layer, without dropout.

    `X`, `y` and `out` are C-contiguous matrices of the dtype of `params` (`y` of labels: int64, one a row), `sizes` is
    int64.
    """
    vector, matrix, written = _array_types(dtype)
    x = types.CPointer(from_dtype(np.dtype(dtype)))
    context = (types.int64, x, x, types.CPointer(types.int64), types.int64, types.int64, types.int64, x)
    part = forward_part.bind(
        forward_rows=backprop.forward(dtype).call, restore=restorer(types.Tuple(context)), **scratch(dtype)
    )
    body = linked(part, BODY, allocates=True)
    interface = Interface(types.void(vector, matrix, SIZES, written, types.int64, types.int64))
    return linked(forward.bind(locate=body.locate), interface, from_python=True)


@functools.cache
def value_kernel(dtype: str, labels: bool) -> Any:
    """`kernel(params, X, y, sizes, l2, terms, functions) -> (loss, bad)`: the mean loss with its penalty.

    The mean is over `terms` of each row.  `bad` is the first row whose target is not allowed, or -1.
    """
    vector, matrix, _ = _array_types(dtype)
    bound = value.bind(
        forward_rows=backprop.forward(dtype).call,
        loss_function=losses.interface(dtype).call,
        allowed=losses.targets_interface(dtype, labels).call,
        penalty=penalty_interface(dtype).call,
        LABELS=labels,
        **scratch(dtype),
    )
    targets = types.Array(types.int64, 1, "C", readonly=True) if labels else matrix
    return kernel(
        bound, _RESULT(vector, matrix, targets, SIZES, types.float64, types.int64, types.UniTuple(types.int64, 4))
    )


@functools.cache
def gradient_kernel(dtype: str, labels: bool) -> Any:
    """`kernel(params, X, y, grads, sizes, l2, terms, (seed, threshold, keep), functions) -> (loss, bad)`.

    The gradient goes to `grads`.  With a bad row nothing is written.  A threshold of 0 is no dropout.
    """
    vector, matrix, _ = _array_types(dtype)
    bound = gradient.bind(
        forward_rows=backprop.forward(dtype).call,
        backward_rows=backprop.backward(dtype).call,
        weights_share=backprop.weights(dtype).call,
        loss_function=losses.interface(dtype).call,
        allowed=losses.targets_interface(dtype, labels).call,
        penalty=penalty_interface(dtype).call,
        **scratch(dtype),
    )
    targets = types.Array(types.int64, 1, "C", readonly=True) if labels else matrix
    grads = vector.copy(readonly=False)
    given = (vector, matrix, targets, grads, SIZES, types.float64, types.int64, _DROPOUT)
    return kernel(bound, _RESULT(*given, types.UniTuple(types.int64, 6)))


# A kernel and the functions that a network needs in it, looked up at once: a call of a small network is short.


@functools.cache
def forward_of(dtype: str, activation: str) -> tuple[Any, Any, Forms]:
    """`forward_kernel`, what ends the products of the layers, and the forms of these calls."""
    return forward_kernel(dtype).kernel, epilogues.forward(dtype, activation).address, Forms()


@functools.cache
def value_of(dtype: str, activation: str, loss: str, penalised: bool) -> tuple[Any, tuple[Any, ...]]:
    """`value_kernel`, and its functions."""
    return value_kernel(dtype, LOSSES[loss].labels), _value_functions(dtype, activation, loss, penalised)


def _value_functions(dtype: str, activation: str, loss: str, penalised: bool) -> tuple[Any, ...]:
    """The product of the layers, the check of targets, the loss, the penalty."""
    return (
        epilogues.forward(dtype, activation).address,
        losses.targets_function(dtype, loss).address,
        losses.loss_function(dtype, loss).address,
        penalty_function(dtype).address if penalised else 0,
    )


@functools.cache
def gradient_of(dtype: str, activation: str, loss: str, penalised: bool) -> tuple[Any, tuple[Any, ...]]:
    """`gradient_kernel`, and its functions: those of `value_of`, and the products for the deltas and the gradient."""
    products = epilogues.backward(dtype, activation).address, epilogues.gradient(dtype).address
    functions = (*_value_functions(dtype, activation, loss, penalised), *products)
    return gradient_kernel(dtype, LOSSES[loss].labels), functions
