"""Sums of squares in the order of the CPU, for the penalty and for clipping; updates of finished gradients."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...gpu.compiler import Kernel
from ...gpu.pointer_tuples import load_strided, store_strided
from ...gpu.pointers import load, store
from ...kernels.jit import inlined
from ...kernels.pointers import pointer
from ...kernels.reductions import LANES
from ...kernels.rounding import add, fma, mul
from ...kernels.rule import Rule
from ...kernels.template import template
from ...optimizers.scaled import limits
from ..clipping import DOWN
from ..elements import flushed

THREADS = 256
LOADS = 8  # elements of a chunk for each thread
CHUNK = LOADS * THREADS


@functools.cache
def squares_kernel(dtype: str, norm: bool) -> Kernel:
    """See `squares`; one block.  `out` is float64, or with `norm` three numbers of the dtype."""
    scalar = from_dtype(np.dtype(dtype))
    address, long, double = types.CPointer, types.int64, types.float64
    signature = (address(scalar), address(long), long, address(scalar if norm else double), double)
    name = f"mlp_{'clip_factor' if norm else 'squares'}_{dtype}"
    function = squares.bind(SCALAR=scalar, NORM=norm, DOWN=DOWN[dtype], SMALLEST=limits(dtype)[0])
    return Kernel(function, name, signature, threads=THREADS)


@inlined
def sum_of_lanes(lanes):
    """The sum of the LANES chains of a sum of squares, behind a pointer."""
    total = 0.0
    for e in range(LANES):
        total = add(total, load(lanes, e))
    return total


@template
def squares(SCALAR, NORM, DOWN, SMALLEST):
    from ...gpu.target import cuda

    def squares(x, ranges, count, out, clip):
        """The sum of the squares in `count` ranges of x, none of which is empty, in float64.

        With NORM the three factors that bring its root down to `clip`: `clip / norm` and two of 1, or those of
        `..clipping`.  As on the CPU: LANES chains, whose order is fixed, so that only as many threads can sum; the
        others load the elements.
        """
        stage = cuda.shared.array(CHUNK, SCALAR)
        lanes = pointer(cuda.shared.array(LANES, types.float64))
        following = cuda.local.array(LOADS, SCALAR)
        thread = np.int64(cuda.threadIdx.x)
        down, passes = SCALAR(1), 1
        while passes > 0:
            passes -= 1
            total = 0.0
            for part in range(count):
                first, last = load(ranges, 2 * part), load(ranges, 2 * part + 1)
                chain = 0.0
                for start in range(first - CHUNK, last, CHUNK):
                    if start >= first:
                        for e in range(LOADS):
                            stage[thread + e * THREADS] = mul(following[e], down) if NORM else following[e]
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
                    store(lanes, thread, chain)
                cuda.syncthreads()
                if thread == 0:
                    total = add(total, sum_of_lanes(lanes))  # the next chunk's barriers come before the next chains
            if NORM:
                if thread == 0:
                    norm, scaled, again = math.sqrt(total), down != SCALAR(1), 0.0
                    shrink = (1.0 if scaled else clip) / norm if scaled or norm > clip else 1.0
                    if shrink < SMALLEST and not scaled:
                        again = 1.0
                    store(out, 0, down if scaled else SCALAR(shrink))
                    store(out, 1, SCALAR(shrink) if scaled else SCALAR(1))
                    store(out, 2, SCALAR(clip) if scaled else SCALAR(1))
                    store(lanes, 0, again)
                cuda.syncthreads()
                if load(lanes, 0) > 0.0:
                    down, passes = SCALAR(DOWN), 1
            elif thread == 0:
                store(out, 0, total)

    return squares


@functools.cache
def apply_kernel(dtype: str, rule: Rule, options: tuple[Any, ...], clipped: bool) -> Kernel:
    """See `apply`; any number of blocks of THREADS."""
    scalar = from_dtype(np.dtype(dtype))
    address = types.CPointer(scalar)
    signature = (address, address, address, address, types.int64, types.UniTuple(scalar, rule.constant_count))
    function = apply.bind(update=rule.update, OPTIONS=options, STATES=len(rule.states), CLIPPED=clipped)
    name = f"mlp_apply_{'clipped' if clipped else 'plain'}_{dtype}_{rule.kernel_name(options)}"
    return Kernel(function, name, signature, threads=THREADS)


@template
def apply(update, OPTIONS, STATES, CLIPPED):
    from ...gpu.target import cuda

    def apply(params, grads, vel, clip_factor, size, scalars):
        """Give each gradient, times the factors at `clip_factor`, to the rule; a state is `size` behind the last."""
        if CLIPPED:
            first, second, third = load(clip_factor, 0), load(clip_factor, 1), load(clip_factor, 2)
        for i in range(cuda.grid(1), size, cuda.gridsize(1)):
            g = load(grads, i)
            if CLIPPED:
                g = mul(mul(mul(g, first), second), third)
            p, states = update(load(params, i), g, load_strided(vel, i, size, STATES), scalars, OPTIONS)
            store(params, i, p)
            store_strided(vel, i, size, flushed(states))

    return apply
