"""Products of few results and many terms, which would leave most multiprocessors idle: blocks of terms apart.

On the CPU too a sum is the sum of blocks of BLOCK terms, added in their order.  So each thread block makes a tile of
one such block of terms, and a second kernel adds these up in the same order, and has the epilogue: the same bits.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numba import types

from ...gpu.compiler import Kernel
from ...gpu.pointers import less, load, narrow
from ...kernels.rounding import add
from ...kernels.template import template
from ..sums import BLOCK
from . import epilogues
from .gemm import GRADIENT, HIDDEN, OUTPUT, UPDATE, Kind, words

TILES = (64, 32)  # the first that gives every multiprocessor a tile, or else the last
FEWEST = 3  # blocks of terms that are made apart: of fewer the second launch would cost what is gained
LARGEST = 1 << 22  # elements that the sums of all blocks of terms may take,
MOST = 65535  # and how many blocks: the third extent of a grid
THREADS = 128
AT_ONCE = 8  # parts whose loads are on the way together


class Division(NamedTuple):
    """How a product is cut into the work of thread blocks."""

    grid: tuple[int, int]  # of tiles
    tile: int
    parts: int  # blocks of terms that are made apart, or 1

    def room(self, rows: int, columns: int) -> int:
        """Elements of memory that the parts need."""
        return 0 if self.parts == 1 else self.parts * rows * columns


def division(shape: tuple[int, int, int], multiprocessors: int, room: int = LARGEST) -> Division:
    """Of a product of (rows, columns, inner): in parts where not even half of the multiprocessors had a tile."""
    rows, columns, inner = shape
    parts = -(-inner // BLOCK)
    whole = _tiles(rows, columns, 1, multiprocessors)
    if not FEWEST <= parts <= MOST or 2 * whole.grid[0] * whole.grid[1] > multiprocessors:
        return whole
    apart = _tiles(rows, columns, parts, multiprocessors)
    return apart if apart.room(rows, columns) <= room else whole


def _tiles(rows: int, columns: int, parts: int, multiprocessors: int) -> Division:
    for tile in TILES:
        grid = -(-rows // tile), -(-columns // tile)
        if grid[0] * grid[1] * parts >= multiprocessors:
            break
    return Division(grid, tile, parts)


def without_epilogue(purpose: str, kind: Kind) -> tuple[str, Kind]:
    """The purpose and the kind of the parts of a product: the same for several."""
    like = {OUTPUT: HIDDEN, UPDATE: GRADIENT}
    return like.get(purpose, purpose), Kind(kind.dtype, source=kind.source, tf32=kind.tf32)


@functools.cache
def sum_kernel(purpose: str, kind: Kind) -> Kernel:
    """`kernel(partial, parts, rows, columns, to)` for what `gemm.part_kernel` left; a thread for each element."""
    scalar = types.float64 if kind.dtype == "float64" else types.float32
    kind = kind._replace(source=None, tf32=False)
    chosen = epilogues.epilogue(purpose, kind, scalar)
    function = sum_parts.bind(SCALAR=scalar, prefetch=chosen.prefetch, write=chosen.write)
    signature = types.CPointer(scalar), types.int64, types.int64, types.int64, chosen.to
    return Kernel(function, f"mlp_sum_{purpose}_{words(kind)}", signature, threads=THREADS)


@template
def sum_parts(SCALAR, prefetch, write):
    from ...gpu.target import cuda

    def sum_parts(partial, parts, rows, columns, to):
        """The sum of an element's blocks of terms, in their order, and the epilogue."""
        values = cuda.local.array(AT_ONCE, SCALAR)
        size, at = rows * columns, np.int64(cuda.grid(1))
        if at < size:
            line, parts = at // columns, narrow(parts)
            operands = prefetch(at, at - line * columns, to)
            total, part = load(partial, at), 1
            while less(part + (AT_ONCE - 1), parts):
                for e in range(AT_ONCE):
                    values[e] = load(partial, (part + e) * size + at)
                for e in range(AT_ONCE):
                    total = add(total, values[e])
                part += AT_ONCE
            while less(part, parts):
                total = add(total, load(partial, part * size + at))
                part += 1
            write(total, operands, at, line == rows - 1, to)

    return sum_parts
