"""What the block's matrix products (`block_gemm.py`) do with their results: with four neighbours of a row at once.

Everything lies in `space`, the block's shared memory.
"""

from __future__ import annotations

from ...gpu.pointer_tuples import load_strided, pick_each, place_each, store_strided
from ...gpu.pointers import fetch, load, put, store
from ...kernels.rounding import add
from ...kernels.template import template
from ..elements import flushed, penalised
from .block_gemm import COLUMNS


@template
def write_hidden(SCALAR, unit):
    from ...gpu.target import cuda

    def write_hidden(i, j, sums, at, to):
        space, biases, out, pitch, width, key, threshold, scale = to
        own = cuda.local.array(COLUMNS, SCALAR)
        fetch(space, biases + j, own, 0, COLUMNS)
        for c in range(COLUMNS):
            own[c] = unit(sums[at + c], own[c], key, i * width + j + c, threshold, scale)
        put(space, out + i * pitch + j, own, 0, COLUMNS)

    return write_hidden


@template
def write_output(SCALAR):
    from ...gpu.target import cuda

    def write_output(i, j, sums, at, to):
        space, biases, out, pitch = to
        own = cuda.local.array(COLUMNS, SCALAR)
        fetch(space, biases + j, own, 0, COLUMNS)
        for c in range(COLUMNS):
            own[c] = add(sums[at + c], own[c])
        put(space, out + i * pitch + j, own, 0, COLUMNS)

    return write_output


@template
def write_delta(delta):
    def write_delta(i, j, total, to):
        """Of one result: those of a thread lie apart here."""
        space, h, out, pitch, width, key, threshold, scale, keep = to
        at = i * pitch + j
        store(space, out + at, delta(total, load(space, h + at), key, i * width + j, threshold, scale, keep))

    return write_delta


@template
def write_weight(SCALAR, update, OPTIONS, STATES):
    from ...gpu.target import cuda

    STATE_ITEMS = max(1, STATES * COLUMNS)

    def write_weight(i, j, sums, at, to):
        """Update four weights."""
        space, start, size, pitch, decay, scalars = to
        own, states = cuda.local.array(COLUMNS, SCALAR), cuda.local.array(STATE_ITEMS, SCALAR)
        here = start + i * pitch + j
        fetch(space, here, own, 0, COLUMNS)
        for k in range(STATES):
            fetch(space, here + (k + 1) * size, states, k * COLUMNS, COLUMNS)
        for c in range(COLUMNS):
            g = penalised(sums[at + c], own[c], decay, True)
            own[c], new = update(own[c], g, pick_each(states, c, COLUMNS, STATES), scalars, OPTIONS)
            place_each(states, c, COLUMNS, flushed(new))
        put(space, here, own, 0, COLUMNS)
        for k in range(STATES):
            put(space, here + (k + 1) * size, states, k * COLUMNS, COLUMNS)

    return write_weight


@template
def step_bias(update, OPTIONS, STATES):
    def step_bias(space, at, size, gradient, scalars):
        """Update one parameter, whose states lie `size`, `2 size`, ... elements further."""
        p, states = update(load(space, at), gradient, load_strided(space, at + size, size, STATES), scalars, OPTIONS)
        store(space, at, p)
        store_strided(space, at + size, size, flushed(states))

    return step_bias
