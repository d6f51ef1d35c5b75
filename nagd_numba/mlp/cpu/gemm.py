"""The matrix product of the passes: tiles, panels, and an order in which the caches keep what is used again.

`A B` is made tile by tile: a panel of B, some columns wide, meets the tiles of A below one another, and what is to be
done to a tile of the result (`epilogues`) is done as soon as it has its sums.  Panels are packed where reading the
matrix itself would cost more: always where B is transposed or has not a whole tile of columns left, and where rows are
`FAR` apart and used often enough.  A is packed for as many tiles at a time as leave the second level of the cache room
for the panel of B.  While the tiles of one panel are worked on, memory that the next panel needs is fetched.

There is one product for a dtype.  Strides make of it those of transposed matrices.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels.aligned import LINE
from ...kernels.jit import inlined
from ...kernels.linking import Interface, Linked, linked
from ...kernels.pointers import shifted
from ...kernels.template import template
from .microkernel import ROWS, VECTORS, tile

# Elements from one row to the next from which on rows crowd the same lines of the cache, and each has its own page.
FAR = 256
OFTEN = 3  # tiles that read a panel of B, or panels that read a tile of A, from which on packing pays


def _second_cache() -> int:
    """The bytes of a core's second level of cache; what is usual where the system does not tell."""
    for found in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, size = ((found / name).read_text().strip() for name in ("level", "size"))
            if level == "2" and size.endswith("K"):
                return int(size[:-1]) << 10
        except (OSError, ValueError):
            continue
    return 1 << 20


# Of the packed tiles of A: they are read in order, once for each group of panels, and need not lie in the second level.
BLOCK_BYTES = min(_second_cache(), 1 << 21) * 5 // 4
GROUP_BYTES = min(_second_cache(), 1 << 21) // 4  # of the panels of B that are packed together
PANELS = 4  # in such a group, at most
STRIPE = 16  # rows of B that are packed into all panels of a group, before those below


@template
def product(sums, epilogue, fetch, turn, fetch_a, turn_a, LANES, LANE_ROWS, LENGTH, GROUP, ITEMSIZE):
    """Rows `first` to below `last` of `A B`, with `columns`; `inner` terms.

    `A[i, k]` is `a[i a_row + k a_inner]`, and `B[k, j]` is `b[k b_inner + j b_column]`; of A and of B one of the
    strides is 1.  `buffer` and `panels` are this thread's own memory, `panels` of `panels_size` elements.  The epilogue
    `function` is given `context`.
    """
    COLUMNS = VECTORS * LANES

    def product(
        a, a_row, a_inner, b, b_inner, b_column, first, last, columns, inner, buffer, panels, function, context
    ):
        rows = last - first
        tiles = max(1, (rows + ROWS - 1) // ROWS)
        low, higher = rows // tiles, rows % tiles  # rows of a tile; so many tiles have one more
        length = (inner + LANES - 1) // LANES * LANES
        pack_a = columns >= OFTEN * COLUMNS and max(a_row, a_inner) >= FAR
        pack_b = b_column != 1 or (tiles >= OFTEN and b_inner >= FAR)
        together = tiles
        if pack_a:
            blocks = (tiles - 1) // max(1, LENGTH // length) + 1
            together = (tiles - 1) // blocks + 1
        group = COLUMNS * panels_of_group(length, GROUP) if pack_b else COLUMNS
        packed_a = shifted(panels, length * group)
        for top in range(0, tiles, together):
            bottom = min(tiles, top + together)
            if pack_a:
                for t in range(top, bottom):
                    i, height = first + t * low + min(t, higher), low + (t < higher)
                    here = shifted(packed_a, (t - top) * length * LANE_ROWS)
                    if a_row == 1:
                        fetch_a(a, i, a_inner, inner, height, here)
                    else:
                        turn_a(a, i * a_row, a_row, height, inner, here)
            for begin in range(0, columns, group):
                end = min(columns, begin + group)
                packed = pack_b or end - begin < COLUMNS
                if b_column != 1:
                    for j in range(begin, end, COLUMNS):
                        here = shifted(panels, (j - begin) * length)
                        turn(b, j * b_column, b_column, min(COLUMNS, end - j), inner, here)
                elif packed:
                    for k in range(0, inner, STRIPE):
                        for j in range(begin, end, COLUMNS):
                            here = shifted(panels, (j - begin) * length + k * COLUMNS)
                            fetch(b, k * b_inner + j, b_inner, min(STRIPE, inner - k), min(COLUMNS, end - j), here)
                # The next group has so many elements for each term; each tile fetches a line of them.
                fetched, following = 0, min(group, columns - end) if packed else 0
                for t in range(top, bottom):
                    i, height = first + t * low + min(t, higher), low + (t < higher)
                    if pack_a:
                        left, row, step = shifted(packed_a, (t - top) * length * LANE_ROWS), 1, LANE_ROWS
                    else:
                        left, row, step = shifted(a, i * a_row), a_row, a_inner
                    for j in range(begin, end, COLUMNS):
                        width = min(COLUMNS, end - j)
                        ahead, way = panels, 0
                        if fetched < following:
                            if b_column == 1:
                                ahead, way = shifted(b, end + fetched), b_inner
                            elif b_inner == 1:
                                ahead, way = shifted(b, end * b_column + fetched * inner), LINE // ITEMSIZE
                            fetched += LINE // ITEMSIZE
                        right, pitch = shifted(b, j), b_inner
                        if packed:
                            right, pitch = shifted(panels, (j - begin) * length), COLUMNS
                        sums(left, row, step, right, pitch, inner, height, width, buffer, False, ahead, way)
                        epilogue(function, buffer, i, j, height, width, context)

    return product


@inlined
def panels_of_group(length, GROUP):
    """The panels of B, of so many terms each, that are packed together; all of a group have up to GROUP terms."""
    return max(1, min(PANELS, GROUP // length))


@template
def panels_size(LANES, LANE_ROWS, LENGTH, GROUP):
    """The elements of the panels of one thread: for products of so many rows of a batch and layers up to the widest."""

    def panels_size(rows, widest):
        most = 0
        for height, inner in ((rows, widest), (widest, rows)):
            length = (inner + LANES - 1) // LANES * LANES
            packed = min((height + ROWS - 1) // ROWS * length, max(LENGTH, length))
            group = max(length, min(PANELS * length, GROUP))  # fewer terms may make a larger group
            most = max(most, group * VECTORS * LANES + packed * LANE_ROWS)
        return most

    return panels_size


def _lengths(dtype: str, length: int) -> dict[str, Any]:
    """The slots about panels; those of A together, and those of a group of B, have so many terms, by default as many as
    the cache has room for.
    """
    made = tile(dtype)
    itemsize = np.dtype(dtype).itemsize
    block, group = BLOCK_BYTES // itemsize // made.lane_rows, GROUP_BYTES // itemsize // made.columns
    return {"LANES": made.lanes, "LANE_ROWS": made.lane_rows, "LENGTH": length or block, "GROUP": length or group}


@functools.cache
def panels_size_of(dtype: str, length: int = 0) -> Any:
    """`panels_size(rows, widest)`."""
    return panels_size.bind(**_lengths(dtype, length))


@functools.cache
def epilogue_interface(dtype: str) -> Interface:
    """The buffer, whose tile 0 has the sums; its first row and column, height and width; the address of what it needs.

    Tile 1 and those after it are free.
    """
    n = types.int64
    return Interface(types.void(types.CPointer(from_dtype(np.dtype(dtype))), n, n, n, n, n))


@functools.cache
def product_of(dtype: str, length: int = 0) -> Linked:
    """`product`."""
    made, x, n = tile(dtype), types.CPointer(from_dtype(np.dtype(dtype))), types.int64
    bound = product.bind(
        sums=made.sums.call,
        epilogue=epilogue_interface(dtype).call,
        fetch=made.fetch,
        turn=made.turn,
        fetch_a=made.fetch_a,
        turn_a=made.turn_a,
        ITEMSIZE=np.dtype(dtype).itemsize,
        **_lengths(dtype, length),
    )
    return linked(bound, Interface(types.void(x, n, n, x, n, n, n, n, n, n, x, x, n, n)))
