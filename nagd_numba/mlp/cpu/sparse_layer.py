"""The first layer on rows of a sparse X: its outputs, and the gradient of its weights, from the stored values alone.

A tile of a product is filled here instead of by `microkernel`, and then given to the same epilogue.  The sums have the
order of the dense product: a chain of `fma` over the terms of each block of `..sums.BLOCK`, and the blocks added in
order.  Terms that are left out add a 0, which changes nothing where weights are finite: the bits are those of the dense
product.  (But for one: a product of stored values may underflow to -0, which the next term that is 0 makes +0 there.)

For the gradient the values of a batch are ordered by columns first.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels.jit import inlined, subroutine
from ...kernels.linking import Interface, Linked, linked
from ...kernels.pointers import pointer_at, shifted, spill
from ...kernels.template import template
from ..dropout import layer_key
from ..sums import BLOCK
from .chosen_rows import chosen_rows
from .gemm import epilogue_interface
from .microkernel import ROWS, tile

_n, _numbers = types.int64, types.CPointer(types.int64)


@inlined
def block_end(places, first, last):
    """Where the terms of the block that term `first` is in end."""
    end, block = first + 1, np.int64(places[first]) // BLOCK
    while end < last and np.int64(places[end]) // BLOCK == block:
        end += 1
    return end


@template
def row_sums(chosen_rows, T, COLUMNS):
    """`sum_e x[e] other[places[e], ...]` for e from `first` to below `last`, in `out`."""

    def row_sums(x, places, first, last, other, pitch, width, out):
        if first == last:
            for q in range(COLUMNS):
                out[q] = T(0)
        now = first
        while now < last:
            end = block_end(places, now, last)
            chosen_rows(shifted(x, now), shifted(places, now), other, pitch, end - now, width, out, now > first)
            now = end

    return row_sums


@template
def first_layer(epilogue, row_sums, T, INDEX, COLUMNS):
    """The outputs of the first layer for rows `first` to below `last` of a batch, which are `order[i]` of X."""

    def first_layer(
        function, params, X, columns, starts, order, sizes, layers, hidden, z, first, last, buffer, dropout
    ):
        values, places, begin = pointer_at(X, T), pointer_at(columns, INDEX), pointer_at(starts, np.int64)
        inputs, outputs = sizes[0], sizes[1]
        seed, threshold, keep = dropout
        top = layers == 1
        key = layer_key(seed, 0)
        context = spill((params, inputs * outputs, z if top else hidden, 0, outputs, top, key, threshold, keep))
        for i in range(first, last, ROWS):
            height = min(ROWS, last - i)
            for j in range(0, outputs, COLUMNS):
                width = min(COLUMNS, outputs - j)
                for r in range(height):
                    low, high = begin[order[i + r]], begin[order[i + r] + 1]
                    out = shifted(buffer, r * COLUMNS)
                    row_sums(values, places, low, high, shifted(params, j), outputs, width, out)
                epilogue(function, buffer, i, j, height, width, context)

    return first_layer


@template
def by_columns(T, INDEX):
    """The values of rows `order[0]` to below `order[rows]` of X, one column after the other.

    Those of column k are `made[ends[k - 1] : ends[k]]`, from 0 on for the first, of rows `rows_of[...]` of the batch,
    which increase.
    """

    def by_columns(X, columns, starts, order, rows, inputs, ends, rows_of, made):
        values, places, begin = pointer_at(X, T), pointer_at(columns, INDEX), pointer_at(starts, np.int64)
        place, at, x = pointer_at(ends, np.int64), pointer_at(rows_of, np.int64), pointer_at(made, T)
        for k in range(inputs + 1):
            place[k] = 0
        for i in range(rows):
            for e in range(begin[order[i]], begin[order[i] + 1]):
                place[np.int64(places[e]) + 1] += 1
        for k in range(inputs):
            place[k + 1] += place[k]
        for i in range(rows):  # `place[k]` goes from the start of column k to its end
            for e in range(begin[order[i]], begin[order[i] + 1]):
                k = np.int64(places[e])
                at[place[k]], x[place[k]] = i, values[e]
                place[k] += 1

    return by_columns


@template
def first_weights(epilogue, row_sums, T, COLUMNS):
    """The gradients of the first layer's weights in one of `shares` equal parts: see `backprop.weights_share`."""

    def first_weights(function, params, size, ends, rows_of, made, sizes, deltas, share, shares, buffer, to):
        target, l2, more, scalars = to
        place, at, x = pointer_at(ends, np.int64), pointer_at(rows_of, np.int64), pointer_at(made, T)
        inputs, outputs = sizes[0], sizes[1]
        part = (inputs + shares - 1) // shares
        lowest, highest = min(inputs, share * part), min(inputs, (share + 1) * part)
        context = spill((params, target, 0, outputs, l2, more, scalars, size))
        for i in range(lowest, highest, ROWS):
            height = min(ROWS, highest - i)
            for j in range(0, outputs, COLUMNS):
                width = min(COLUMNS, outputs - j)
                for r in range(height):
                    low, high = place[i + r - 1] if i + r > 0 else np.int64(0), place[i + r]
                    row_sums(x, at, low, high, shifted(deltas, j), outputs, width, shifted(buffer, r * COLUMNS))
                epilogue(function, buffer, i, j, height, width, context)

    return first_weights


@functools.cache
def first_layer_interface(dtype: str) -> Interface:
    """What `first_layer` is given."""
    x = types.CPointer(from_dtype(np.dtype(dtype)))
    dropout = types.Tuple((types.uint64, types.uint64, types.float64))
    data = (_n, _n, _n, _numbers)
    return Interface(types.void(_n, x, *data, _numbers, _n, x, x, _n, _n, x, dropout))


BY_COLUMNS = Interface(types.void(_n, _n, _n, _numbers, *[_n] * 5))


@functools.cache
def first_weights_interface(dtype: str) -> Interface:
    """What `first_weights` is given."""
    kind = from_dtype(np.dtype(dtype))
    x = types.CPointer(kind)
    to = types.Tuple((x, kind, types.boolean, x))
    return Interface(types.void(_n, x, _n, _n, _n, _n, _numbers, x, _n, _n, x, to))


def _slots(dtype: str) -> dict[str, Any]:
    T, columns = np.dtype(dtype).type, tile(dtype).columns
    sums = subroutine(row_sums.bind(chosen_rows=chosen_rows(dtype), T=T, COLUMNS=columns))
    return {"epilogue": epilogue_interface(dtype).call, "row_sums": sums, "T": T, "COLUMNS": columns}


@functools.cache
def first_layer_function(dtype: str, index: str) -> Linked:
    """`first_layer` for columns of this dtype."""
    return linked(first_layer.bind(**_slots(dtype), INDEX=np.dtype(index).type), first_layer_interface(dtype))


@functools.cache
def by_columns_function(dtype: str, index: str) -> Linked:
    """`by_columns`, likewise."""
    return linked(by_columns.bind(T=np.dtype(dtype).type, INDEX=np.dtype(index).type), BY_COLUMNS)


@functools.cache
def first_weights_function(dtype: str) -> Linked:
    """`first_weights`."""
    return linked(first_weights.bind(**_slots(dtype)), first_weights_interface(dtype))
