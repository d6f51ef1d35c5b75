"""What a guard adds up on a device, in the order of the CPU: sums of blocks, and of all arrays.

Arrays are rows of a table: START, SIZE, PARAMS, GRADS, the states, the master copy.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types

from ..kernels.jit import inlined
from ..kernels.pointers import pointer
from ..kernels.reductions import BAD, BLOCK, COLUMNS, DOT, LANES, SQUARES
from ..kernels.rounding import add, fma, mul
from ..kernels.template import template
from .compiler import device_function
from .pointers import load, pointer_at, store

THREADS = LANES
STAGE = 512  # blocks whose sums are added up at a time
CHAINS, STAGED = COLUMNS * LANES, COLUMNS * STAGE
START, SIZE, PARAMS, GRADS = range(4)  # columns of the table; the states and the master copy follow


@inlined
def row_of(table, arrays, block, width):
    """The row of the array that a block belongs to: the last that starts at it or before."""
    low, high = 0, arrays
    while high - low > 1:
        middle = (low + high) >> 1
        if load(table, middle * width + START) <= block:
            low = middle
        else:
            high = middle
    return low * width


@inlined
def chain_total(chains, column):
    """The sum of the chains of one of the columns, in order."""
    total = 0.0
    for e in range(LANES):
        total = add(total, load(chains, column * LANES + e))
    return total


@functools.cache
def block_sums_function() -> Any:
    return device_function(block_sums)


def block_sums(grads, first, last, scale, thread, chains):
    """The chain of a thread over the elements of a block, times a power of two, to `chains`."""
    squares = bad = 0.0
    i = first + thread
    while i < last:
        g = mul(np.float64(load(grads, i)), scale)
        squares = fma(g, g, squares)
        bad = add(bad, 0.0 if abs(g) < math.inf else 1.0)
        i += LANES
    store(chains, SQUARES * LANES + thread, squares)
    store(chains, BAD * LANES + thread, bad)


@template
def gradient_sums(block_sums, WIDTH):
    from .target import cuda

    def gradient_sums(table, arrays, blocks, like, sums):
        """The columns SQUARES and BAD of `sums`, each of `blocks` numbers."""
        chains = pointer(cuda.shared.array(CHAINS, types.float64))
        thread = np.int64(cuda.threadIdx.x)
        for block in range(cuda.blockIdx.x, blocks, cuda.gridDim.x):
            row = row_of(table, arrays, block, WIDTH)
            grads = pointer_at(load(table, row + GRADS), like)
            first = (block - load(table, row + START)) * BLOCK
            block_sums(grads, first, min(load(table, row + SIZE), first + BLOCK), 1.0, thread, chains)
            cuda.syncthreads()
            if thread <= BAD:
                store(sums, thread * blocks + block, chain_total(chains, thread))
            cuda.syncthreads()

    return gradient_sums


@template
def ordered_totals(WIDTH):
    from .target import cuda

    def ordered_totals(table, arrays, blocks, sums, thread, stage):
        """The sums of each array's blocks in order, added up in the order of the arrays: one total for each column."""
        part = total = 0.0
        array, end = 0, load(table, WIDTH + START) if arrays > 1 else blocks
        for first in range(0, blocks, STAGE):
            count = min(STAGE, blocks - first)
            for e in range(thread, count, THREADS):
                for column in range(COLUMNS):
                    store(stage, column * STAGE + e, load(sums, column * blocks + first + e))
            cuda.syncthreads()
            if thread < COLUMNS:
                for e in range(count):
                    if first + e == end:
                        total, part, array = add(total, part), 0.0, array + 1
                        end = load(table, (array + 1) * WIDTH + START) if array + 1 < arrays else blocks
                    part = add(part, load(stage, thread * STAGE + e))
            cuda.syncthreads()
        if thread < COLUMNS:
            store(stage, thread, add(total, part))
        cuda.syncthreads()
        made = load(stage, SQUARES), load(stage, BAD), load(stage, DOT)
        cuda.syncthreads()
        return made

    return ordered_totals


@inlined
def stepped(g, by):
    """A gradient times the seven steps, in turn: written out, since where a loop stays `by` lies in memory."""
    g = mul(mul(mul(mul(g, by[0]), by[1]), by[2]), by[3])
    return mul(mul(mul(g, by[4]), by[5]), by[6])


@template
def overflows(WIDTH, SCALAR):
    from .target import cuda

    def overflows(table, arrays, like, by, factor, thread, stage):
        """How many gradients, times the steps `by` and the factor, are not finite; the last use of `stage`."""
        found = 0.0
        for array in range(arrays):
            grads = pointer_at(load(table, array * WIDTH + GRADS), like)
            for i in range(thread, load(table, array * WIDTH + SIZE), THREADS):
                g = load(grads, i)
                g = stepped(g, by)
                found = add(found, 0.0 if abs(mul(g, factor)) < SCALAR(math.inf) else 1.0)
        store(stage, thread, found)
        cuda.syncthreads()
        found = 0.0
        for k in range(THREADS):
            found = add(found, load(stage, k))
        return found

    return overflows
