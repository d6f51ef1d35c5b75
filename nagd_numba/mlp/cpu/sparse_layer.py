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

from ...kernels.jit import inlined
from ...kernels.linking import Interface, Linked, linked
from ...kernels.pointers import peek, pointer_at, poke, shifted, spill
from ...kernels.rounding import add, fma, mul
from ...kernels.template import template
from ..dropout import layer_key
from ..sums import BLOCK
from .gemm import epilogue_interface
from .microkernel import ROWS, tile

_n, _numbers = types.int64, types.CPointer(types.int64)


@inlined
def add_term(block, x, other, start, width, COLUMNS):
    """`block[q] += x other[start + q]`, rounded once."""
    line = shifted(other, start)
    if width == COLUMNS:
        for q in range(COLUMNS):
            poke(block, q, fma(x, peek(line, q, 1), peek(block, q, 0)), 0)
    else:
        for q in range(width):
            poke(block, q, fma(x, peek(line, q, 1), peek(block, q, 0)), 0)


@inlined
def end_block(out, block, first, T, COLUMNS):
    """Add the sums of a block to those before it, and begin another."""
    for q in range(COLUMNS):
        own = peek(block, q, 0)
        poke(out, q, own if first else add(peek(out, q, 1), own), 1)
        poke(block, q, T(0), 0)


@template
def first_layer(epilogue, T, SOURCE, INDEX, COLUMNS, TILE):
    """The outputs of the first layer for rows `first` to below `last` of a batch, which are `order[i]` of X."""

    def first_layer(
        function, params, X, columns, starts, order, scale, sizes, layers, hidden, z, first, last, buffer, dropout
    ):
        values, places, begin = pointer_at(X, SOURCE), pointer_at(columns, INDEX), pointer_at(starts, np.int64)
        inputs, outputs, factor = sizes[0], sizes[1], T(scale)
        seed, threshold, keep = dropout
        top = layers == 1
        key = layer_key(seed, 0)
        context = spill((params, inputs * outputs, z if top else hidden, 0, outputs, top, key, threshold, keep))
        block = shifted(buffer, TILE)
        for i in range(first, last, ROWS):
            height = min(ROWS, last - i)
            for j in range(0, outputs, COLUMNS):
                width = min(COLUMNS, outputs - j)
                for q in range(COLUMNS):
                    block[q] = T(0)
                for r in range(height):
                    row, out, now, fresh = order[i + r], shifted(buffer, r * COLUMNS), np.int64(-1), True
                    for e in range(begin[row], begin[row + 1]):
                        k = np.int64(places[e])
                        if now >= 0 and k // BLOCK != now:
                            end_block(out, block, fresh, T, COLUMNS)
                            fresh = False
                        now = k // BLOCK
                        add_term(block, mul(T(values[e]), factor), params, k * outputs + j, width, COLUMNS)
                    end_block(out, block, fresh, T, COLUMNS)
                epilogue(function, buffer, i, j, height, width, context)

    return first_layer


@template
def by_columns(T, SOURCE, INDEX):
    """The values of rows `order[0]` to below `order[rows]` of X, one column after the other.

    Those of column k are `made[ends[k - 1] : ends[k]]`, from 0 on for the first, of rows `rows_of[...]` of the batch,
    which increase.
    """

    def by_columns(X, columns, starts, order, scale, rows, inputs, ends, rows_of, made):
        values, places, begin = pointer_at(X, SOURCE), pointer_at(columns, INDEX), pointer_at(starts, np.int64)
        place, at, x, factor = pointer_at(ends, np.int64), pointer_at(rows_of, np.int64), pointer_at(made, T), T(scale)
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
                at[place[k]], x[place[k]] = i, mul(T(values[e]), factor)
                place[k] += 1

    return by_columns


@template
def first_weights(epilogue, T, COLUMNS, TILE):
    """The gradients of the first layer's weights in one of `shares` equal parts: see `backprop.weights_share`."""

    def first_weights(function, params, size, ends, rows_of, made, sizes, deltas, share, shares, buffer, to):
        target, l2, more, scalars = to
        place, at, x = pointer_at(ends, np.int64), pointer_at(rows_of, np.int64), pointer_at(made, T)
        inputs, outputs = sizes[0], sizes[1]
        part = (inputs + shares - 1) // shares
        lowest, highest = min(inputs, share * part), min(inputs, (share + 1) * part)
        context = spill((params, target, 0, outputs, l2, more, scalars, size))
        block = shifted(buffer, TILE)
        for i in range(lowest, highest, ROWS):
            height = min(ROWS, highest - i)
            for j in range(0, outputs, COLUMNS):
                width = min(COLUMNS, outputs - j)
                for q in range(COLUMNS):
                    block[q] = T(0)
                for r in range(height):
                    k, out, now, fresh = i + r, shifted(buffer, r * COLUMNS), np.int64(-1), True
                    start = place[k - 1] if k > 0 else np.int64(0)
                    for e in range(start, place[k]):
                        row = at[e]
                        if now >= 0 and row // BLOCK != now:
                            end_block(out, block, fresh, T, COLUMNS)
                            fresh = False
                        now = row // BLOCK
                        add_term(block, x[e], deltas, row * outputs + j, width, COLUMNS)
                    end_block(out, block, fresh, T, COLUMNS)
                epilogue(function, buffer, i, j, height, width, context)

    return first_weights


@functools.cache
def first_layer_interface(dtype: str) -> Interface:
    """What `first_layer` is given."""
    x = types.CPointer(from_dtype(np.dtype(dtype)))
    dropout = types.Tuple((types.uint64, types.uint64, types.float64))
    data = (_n, _n, _n, _numbers, types.float64)
    return Interface(types.void(_n, x, *data, _numbers, _n, x, x, _n, _n, x, dropout))


BY_COLUMNS = Interface(types.void(_n, _n, _n, _numbers, types.float64, *[_n] * 5))


@functools.cache
def first_weights_interface(dtype: str) -> Interface:
    """What `first_weights` is given."""
    kind = from_dtype(np.dtype(dtype))
    x = types.CPointer(kind)
    to = types.Tuple((x, kind, types.boolean, x))
    return Interface(types.void(_n, x, _n, _n, _n, _n, _numbers, x, _n, _n, x, to))


def _slots(dtype: str) -> dict[str, Any]:
    made = tile(dtype)
    return {
        "epilogue": epilogue_interface(dtype).call,
        "T": np.dtype(dtype).type,
        "COLUMNS": made.columns,
        "TILE": ROWS * made.columns,
    }


@functools.cache
def first_layer_function(dtype: str, source: str, index: str) -> Linked:
    """`first_layer` for values and columns of these dtypes."""
    kinds: dict[str, Any] = {"SOURCE": np.dtype(source).type, "INDEX": np.dtype(index).type}
    return linked(first_layer.bind(**_slots(dtype), **kinds), first_layer_interface(dtype))


@functools.cache
def by_columns_function(dtype: str, source: str, index: str) -> Linked:
    """`by_columns`, likewise."""
    kinds: dict[str, Any] = {"SOURCE": np.dtype(source).type, "INDEX": np.dtype(index).type}
    return linked(by_columns.bind(T=np.dtype(dtype).type, **kinds), BY_COLUMNS)


@functools.cache
def first_weights_function(dtype: str) -> Linked:
    """`first_weights`."""
    return linked(first_weights.bind(**_slots(dtype)), first_weights_interface(dtype))
