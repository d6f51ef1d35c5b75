"""The gradient of a layer's weights, of one micro-batch after another, added up along a tree while it is in the cache.

A *portion* is some consecutive rows of a batch, cut into leaves: `bounds[m]` to below `bounds[m + 1]` are the rows of
leaf `m`.  A tile of `h^T d` is formed for the leaves in turn, on a stack of tiles: after leaf `m` its two topmost tiles
are added `merges[m]` times, and then the one that is left becomes row `ends[m]` of the result, if that is not -1.
With no merges each leaf has a row of its own; with those of `distributed.tree` the rows are sums of whole branches.

The value of a leaf is what the product with `epilogues.gradient` makes of its rows alone.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels.linking import Interface, Linked, linked
from ...kernels.pointers import shifted
from ...kernels.rounding import add
from ...kernels.template import template
from ..elements import penalised
from ..sums import BLOCK
from .gemm import FAR, OFTEN
from .microkernel import ROWS, tile

_n, _numbers = types.int64, types.CPointer(types.int64)
LEAVES = types.Tuple((_numbers, _numbers, _numbers, _n))  # bounds, merges, ends, the number of leaves


@template
def leaves_product(sums, fetch, put, T, COLUMNS, TILE):
    """Rows `first` to `last` of `A^T B` for every leaf; `more`: add to what is there."""

    def leaves_product(a, a_start, a_pitch, b, b_start, b_pitch, first, last, columns, leaves, buffer, panel, to):
        bounds, merges, ends, count = leaves
        params, out, start, size, l2, more = to
        inner = bounds[count]
        for j in range(0, columns, COLUMNS):
            width = min(COLUMNS, columns - j)
            source, pitch = shifted(b, b_start + j), b_pitch
            if width < COLUMNS or (b_pitch >= FAR and last - first > OFTEN * ROWS):
                fetch(b, b_start + j, b_pitch, inner, width, panel)
                source, pitch = panel, COLUMNS
            for i in range(first, last, ROWS):
                height, corner, depth = min(ROWS, last - i), start + i * columns + j, 0
                for m in range(count):
                    begin, end = bounds[m], bounds[m + 1]
                    # A right part of one chain: the product adds it to the left part, with the same rounding.
                    joined = np.int64(merges[m] > 0 and begin < end <= begin + BLOCK)
                    depth -= joined
                    here = shifted(buffer, depth * TILE)
                    if begin == end:
                        for e in range(TILE):
                            here[e] = T(0)
                    left, right = shifted(a, a_start + i + begin * a_pitch), shifted(source, begin * pitch)
                    sums(left, 1, a_pitch, right, pitch, end - begin, height, width, here, joined == 1, right, 0)
                    if m == 0 and l2 != 0:
                        fetch(params, corner, columns, height, width, shifted(here, TILE))
                        for e in range(TILE):
                            here[e] = penalised(here[e], here[TILE + e], l2, True)
                    depth += 1
                    for _ in range(merges[m] - joined):
                        depth -= 1
                        below, above = shifted(buffer, (depth - 1) * TILE), shifted(buffer, depth * TILE)
                        for e in range(TILE):
                            below[e] = add(below[e], above[e])
                    if ends[m] >= 0:
                        place, depth = ends[m] * size + corner, 0
                        if more:
                            fetch(out, place, columns, height, width, shifted(buffer, TILE))
                            for e in range(TILE):
                                buffer[e] = add(buffer[TILE + e], buffer[e])
                        put(buffer, out, place, columns, height, width)

    return leaves_product


@template
def leaves_share(product, T):
    """The gradients of the weights in one of `shares` equal parts of every layer; the first has the biases too.

    `low` is the first row of the portion in the batch, which has `rows`.
    """

    def leaves_share(params, x, one, sizes, layers, rows, low, hidden, deltas, leaves, share, shares, memory, to):
        buffer, panel = memory
        out, size, l2, more = to
        below, below_start = x, low * sizes[0]
        start, place, delta = 0, 0, 0
        for layer in range(layers):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            part = (inputs + shares - 1) // shares
            lowest, highest = min(inputs, share * part), min(inputs, (share + 1) * part)
            upper = delta + low * outputs
            if lowest < highest:
                product(
                    *(below, below_start, inputs, deltas, upper, outputs, lowest, highest, outputs, leaves),
                    *(buffer, panel, (params, out, start, size, l2, more)),
                )
            start += inputs * outputs
            if share == 0:
                product(
                    *(one, 0, 0, deltas, upper, outputs, 0, 1, outputs, leaves),
                    *(buffer, panel, (params, out, start, size, T(0), more)),
                )
            start += outputs
            delta += rows * outputs
            below, below_start = hidden, place + low * outputs
            place += rows * outputs

    return leaves_share


@functools.cache
def leaves_weights(dtype: str) -> Linked:
    """`leaves_share`."""
    made, kind, T = tile(dtype), from_dtype(np.dtype(dtype)), np.dtype(dtype).type
    x = types.CPointer(kind)
    to = types.Tuple((x, x, _n, _n, kind, types.boolean))
    product = linked(
        leaves_product.bind(
            sums=made.sums.call,
            fetch=made.fetch,
            put=made.put,
            T=T,
            COLUMNS=made.columns,
            TILE=ROWS * made.columns,
        ),
        Interface(types.void(x, _n, _n, x, _n, _n, _n, _n, _n, LEAVES, x, x, to)),
    )
    memory, to = types.Tuple((x, x)), types.Tuple((x, _n, kind, types.boolean))
    given = (x, x, x, _numbers, _n, _n, _n, x, x, LEAVES, _n, _n, memory, to)
    return linked(leaves_share.bind(product=product.call, T=T), Interface(types.void(*given)))
