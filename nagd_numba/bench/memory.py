"""The memory's limits: kernels that only read and write what a step must.

Their vectors are the widest of the processor, which LLVM by itself does not choose on most that have AVX-512: a load of
a whole line of the cache at once gets a seventh more from the memory.
"""

from __future__ import annotations

import os

import numpy as np
from numba import njit, prange, types
from numba.extending import intrinsic

from . import timing

STEP_BYTES = {"nesterov": 5, "adam": 7}  # times the size of an element: all are read, and all but the gradient written
STEP_FLOP = {"nesterov": 6, "adam": 15}  # per element: three fused multiply-adds; for Adam with a root and a quotient
STATES = {"nesterov": 1, "adam": 2}


def vectors(n: int, dtype: str, count: int = 3) -> list[np.ndarray]:
    """Touched memory with small numbers in it, which stay small under repeated steps."""
    return [np.full(n, 2.0**-20 / (k + 1), dtype) for k in range(count)]


def elements_beyond_caches() -> int:
    """Elements of each vector of a step that no cache holds, in an eighth of the memory at most."""
    if timing.QUICK or not hasattr(os, "sysconf"):
        return 1_000 if timing.QUICK else 20_000_000
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(100_000_000, total // 8 // 12)


@intrinsic
def widest(typingctx):
    """Loops of the function in which this stands have the widest vectors that the processor knows."""

    def build(context, builder, signature, operands):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite's `add` knows few names
        return context.get_dummy_value()

    return types.void(), build


def move(p, g, v):
    """Read and write the bytes of a step, with one sum so that all are read."""
    for i in prange(p.size):
        widest()
        total = p[i] + g[i] + v[i]
        p[i] = total
        v[i] = total


def move_adam(p, g, m, v):
    """The same for Adam."""
    for i in prange(p.size):
        widest()
        total = p[i] + g[i] + m[i] + v[i]
        p[i] = total
        m[i] = total
        v[i] = total


MOVERS = {
    rule: {False: njit(mover), True: njit(parallel=True)(mover)}  # by whether all threads move
    for rule, mover in (("nesterov", move), ("adam", move_adam))
}
