"""What the block's matrix products (`block_gemm.py`) do with each element: `epilogue(i, j, total, to)`.

Everything lies in `space`, the block's shared memory.
"""

from __future__ import annotations

from ...gpu.pointer_tuples import load_strided, store_strided
from ...gpu.pointers import load, store
from ...kernels.rounding import add
from ...kernels.template import template
from ..elements import flushed, penalised


@template
def write_hidden(unit):
    def write_hidden(i, j, total, to):
        space, biases, out, pitch, width, key, threshold, scale = to
        store(space, out + i * pitch + j, unit(total, load(space, biases + j), key, i * width + j, threshold, scale))

    return write_hidden


def write_output(i, j, total, to):
    space, biases, out, pitch = to
    store(space, out + i * pitch + j, add(total, load(space, biases + j)))


@template
def write_delta(delta):
    def write_delta(i, j, total, to):
        space, h, out, pitch, width, key, threshold, scale, keep = to
        at = i * pitch + j
        store(space, out + at, delta(total, load(space, h + at), key, i * width + j, threshold, scale, keep))

    return write_delta


@template
def write_weight(step_weight):
    def write_weight(i, j, total, to):
        space, start, size, pitch, decay, scalars = to
        step_weight(space, start + i * pitch + j, size, total, decay, scalars)

    return write_weight


@template
def step_weight(update, OPTIONS, STATES):
    def step_weight(space, at, size, gradient, decay, scalars):
        """Update one parameter, whose states lie `size`, `2 size`, ... elements further."""
        p = load(space, at)
        g = penalised(gradient, p, decay, True)
        p, states = update(p, g, load_strided(space, at + size, size, STATES), scalars, OPTIONS)
        store(space, at, p)
        store_strided(space, at + size, size, flushed(states))

    return step_weight
