"""What one thread block moves between the device's memory and its shared memory: a network, and batches.

A warp takes rows of a batch, its lanes neighbours.  Elements go through registers, STAGED of a thread at a time, and
come in two steps, so that others can work while they are on the way: `read_rows` asks for them, `write_rows` waits.
"""

from __future__ import annotations

import numpy as np

from ...gpu.pointers import less, load, moved, narrow, quotient, store
from ...kernels.rounding import mul
from ...kernels.template import template
from .block_gemm import pitch_of, rounded

WARP = 32


@template
def read_rows(STAGED):
    from ...gpu.target import cuda

    def read_rows(values, X, order, begin, rows, inputs, row, column, thread, threads):
        """The next elements of rows `order[begin], ...` of X, from (row, column) on; returns where they end."""
        places, first = cuda.local.array(STAGED, np.int64), moved(order, begin)
        for e in range(STAGED):
            # Beyond the end the first element is read, and not used: no branch delays the others.
            inside = less(row, rows) and less(column, inputs)
            places[e] = load(first, row if inside else 0) * inputs + (column if inside else 0)
            column = narrow(column + WARP)
            if not less(column, inputs):
                column, row = thread & (WARP - 1), narrow(row + (threads >> 5))
        for e in range(STAGED):
            values[e] = load(X, places[e])
        return row, column

    return read_rows


@template
def write_rows(SCALAR, STAGED):
    def write_rows(space, to, values, rows, inputs, scale, row, column, thread, threads):
        """The same elements, times `scale`, to `space[to]` and what follows."""
        pitch = narrow(pitch_of(inputs))
        for e in range(STAGED):
            if less(row, rows) and less(column, inputs):
                store(space, to + row * pitch + column, mul(SCALAR(values[e]), scale))
            column = narrow(column + WARP)
            if not less(column, inputs):
                column, row = thread & (WARP - 1), narrow(row + (threads >> 5))

    return write_rows


def copy_network(space, to, flat, start, sizes, layers, thread, threads, inwards):
    """Parameters or a state between the device's memory, where they are dense, and `space`; returns how much there."""
    place, here = start, to
    for layer in range(layers):
        ins, outs = load(sizes, layer), load(sizes, layer + 1)
        pitch = pitch_of(outs)
        e = thread
        while e < (ins + 1) * outs:
            i = quotient(e, outs)
            j = e - i * outs
            at = here + i * pitch + j  # the biases are a last row
            if inwards:
                store(space, at, load(flat, place + e))
            else:
                store(flat, place + e, load(space, at))
            e += threads
        place += (ins + 1) * outs
        here += ins * pitch + rounded(outs)
    return here - to
