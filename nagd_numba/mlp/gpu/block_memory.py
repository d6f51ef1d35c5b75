"""What one thread block moves between the device's memory and its shared memory: a network, and batches."""

from __future__ import annotations

from ...gpu.pointers import load, quotient, store
from ...kernels.rounding import mul
from ...kernels.template import template
from .block_gemm import pitch_of, weights_pitch


@template
def load_batch(SCALAR):
    def load_batch(space, to, X, order, begin, rows, inputs, scale, thread, threads):
        """Rows `order[begin], ...` of X, times `scale`, to `space[to]` and what follows."""
        pitch = pitch_of(inputs)
        e = thread
        while e < rows * inputs:
            i = quotient(e, inputs)
            q = e - i * inputs
            value = load(X, load(order, begin + i) * inputs + q)
            store(space, to + i * pitch + q, mul(SCALAR(value), scale))
            e += threads

    return load_batch


def copy_network(space, to, flat, start, sizes, layers, thread, threads, inwards):
    """Parameters or a state between the device's memory, where they are dense, and `space`; returns how much there."""
    place, here = start, to
    for layer in range(layers):
        ins, outs = load(sizes, layer), load(sizes, layer + 1)
        pitch = weights_pitch(outs)
        e = thread
        while e < (ins + 1) * outs:
            i = quotient(e, outs)
            j = e - i * outs
            at = here + i * pitch + j if i < ins else here + pitch_of(ins * pitch) + j
            if inwards:
                store(space, at, load(flat, place + e))
            else:
                store(flat, place + e, load(space, at))
            e += threads
        place += (ins + 1) * outs
        here += pitch_of(ins * pitch) + pitch_of(outs)
    return here - to
