"""The penalty, the norm of a gradient, and updates whose gradient was finished before."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...gpu.compiler import Kernel
from ...gpu.pointers import load, store
from ...kernels.mathfuncs import flush_subnormal
from ...kernels.rounding import add, fma, mul
from ...kernels.rule import Rule
from ..cpu.losses import LANES

THREADS = 256
LOADS = 8  # elements of a chunk for each thread
CHUNK = LOADS * THREADS

# Bound below.
cuda: Any = None
SCALAR: Any = None
NORM: Any = None
CLIPPED: Any = None
OPTIONS: Any = None
update: Any = None


@functools.cache
def squares_kernel(dtype: str, norm: bool) -> Kernel:
    """See `squares`; one block.  `out` is float64, or with `norm` of the dtype."""
    from numba import cuda

    scalar = from_dtype(np.dtype(dtype))
    pointer, long, double = types.CPointer, types.int64, types.float64
    signature = (pointer(scalar), pointer(long), long, pointer(scalar if norm else double), double)
    name = f"mlp_{'shrink' if norm else 'squares'}_{dtype}"
    return Kernel(squares, name, signature, threads=THREADS, cuda=cuda, SCALAR=scalar, NORM=norm)


def squares(x, ranges, count, out, clip):
    """The sum of the squares in `count` ranges of x, in float64; with NORM what brings their root down to `clip`.

    As `passes.sum_of_squares`: LANES chains, whose order is fixed, so that only as many threads can sum; the others
    bring the elements.
    """
    stage, lanes = cuda.shared.array(CHUNK, SCALAR), cuda.shared.array(LANES, types.float64)
    following = cuda.local.array(LOADS, SCALAR)
    thread = np.int64(cuda.threadIdx.x)
    total = 0.0
    for part in range(count):
        first, last = load(ranges, 2 * part), load(ranges, 2 * part + 1)
        chain = 0.0
        for start in range(first - CHUNK, last, CHUNK):
            if start >= first:
                for e in range(LOADS):
                    stage[thread + e * THREADS] = following[e]
                cuda.syncthreads()
            for e in range(LOADS):
                at = start + CHUNK + thread + e * THREADS
                following[e] = load(x, at if at < last else first)
            if start >= first:
                if thread < LANES:
                    for e in range(thread, min(CHUNK, last - start), LANES):
                        value = np.float64(stage[e])
                        chain = fma(value, value, chain)
                cuda.syncthreads()
        if thread < LANES:
            lanes[thread] = chain
        cuda.syncthreads()
        if thread == 0:
            together = 0.0
            for e in range(LANES):
                together = add(together, lanes[e])
            total = add(total, together)
        cuda.syncthreads()
    if thread == 0:
        if NORM:
            norm = math.sqrt(total)
            store(out, 0, SCALAR(clip / norm) if norm > clip else SCALAR(1))
        else:
            store(out, 0, total)


@functools.cache
def apply_kernel(dtype: str, rule: Rule, options: tuple[Any, ...], clipped: bool) -> Kernel:
    """See `apply`; any number of blocks of THREADS."""
    from numba import cuda

    scalar = from_dtype(np.dtype(dtype))
    pointer = types.CPointer(scalar)
    signature = (pointer, pointer, pointer, pointer, types.int64, types.UniTuple(scalar, rule.constant_count))
    bound = {"cuda": cuda, "CLIPPED": clipped, "OPTIONS": options, "update": rule.update}
    name = f"mlp_apply_{'clipped' if clipped else 'plain'}_{dtype}_{rule.kernel_name(options)}"
    return Kernel(apply, name, signature, source=rule.update, threads=THREADS, **bound)


def apply(params, grads, vel, shrink, size, scalars):
    """Give each gradient, times `shrink`, to the rule."""
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        g = load(grads, i)
        if CLIPPED:
            g = mul(g, load(shrink, 0))
        p, state = update(load(params, i), g, (load(vel, i),), scalars, OPTIONS)
        store(params, i, p)
        store(vel, i, flush_subnormal(state[0]))
