"""The kernels of steps with a guard: sums in the order of the CPU, the decision they lead to, and the step it allows.

    sums    the sums of each block of the gradients, where the decision needs them before the step
    judge   one thread block: the totals, the norm, what the gradients are multiplied by, whether the step is skipped
    step    the update of each block, unless it is skipped, and the sums of what it met
    judge   again, without a decision: the product with the velocity, and all else where nothing was decided before

(and where the loss scale follows the gradients, `guard_scale` changes it.)

A block is `reductions.BLOCK` elements, and a thread block has a thread for each of its LANES chains of additions: any
grid gives equal bits.  Arrays are rows of a table, so that one array is a list of one:

    START, SIZE, PARAMS, GRADS, the states, the master copy         the first block, elements, addresses

What is found out and decided lies in `control`, float64, from one kernel to the next; the host reads it when asked.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types

from ..kernels.half import STORAGE
from ..kernels.jit import inlined
from ..kernels.pointers import pointer
from ..kernels.reductions import BAD, BLOCK, COLUMNS, DOT, LANES, SQUARES
from ..kernels.rounding import add, div, fma, mul, sqrt
from ..kernels.rule import Rule
from ..kernels.template import template
from .compiler import Kernel, device_function
from .guard_sums import (
    CHAINS,
    GRADS,
    PARAMS,
    SIZE,
    STAGED,
    START,
    THREADS,
    block_sums_function,
    chain_total,
    gradient_sums,
    ordered_totals,
    overflows,
    row_of,
    stepped,
)
from .pointer_tuples import load_each, load_strided, pick_each, place_each, pointers_at, store_each
from .pointers import load, pointer_at, store
from .powers import exponents, power_of_two, quotient, scale_steps, value

ROWS = 4  # elements of a chain that are on the way at once

# What `control` holds.  STEPS multiply a gradient whose factor is no normal number (`powers.scale_steps`).
SKIP, NORM, COUNT, PRODUCT, FACTOR, SCALED, SKIPPED, FINITE_STEPS, STEPS = range(9)
CONTROL = STEPS + 7
UNDECIDED, DECIDED = range(2)  # when `step` runs, and `judge` after it
PROPAGATE, DO_SKIP = range(2)

_POWER = 600.0  # as in `optimizers.guard`

_i64, _f64 = types.int64, types.float64
_longs, _doubles = types.CPointer(_i64), types.CPointer(_f64)


def columns(states: int) -> int:
    """The columns of the table for a rule with so many states."""
    return GRADS + 1 + states + 1


@functools.cache
def sums_kernel(storage: str, states: int) -> Kernel:
    """`sums`, for gradients of the dtype `storage` in memory and a rule with so many states."""
    function = gradient_sums.bind(block_sums=block_sums_function(), WIDTH=columns(states))
    signature = (_longs, _i64, _i64, types.CPointer(STORAGE[storage]), _doubles)
    return Kernel(function, f"guard_sums_{storage}_{states}", signature, threads=THREADS)


@functools.cache
def judge_kernel(storage: str, states: int, before: bool) -> Kernel:
    """`judge`, before or after the step of a rule with so many states."""
    exact_name = "float64" if storage == "float64" else "float32"
    scalar, width = getattr(types, exact_name), columns(states)
    smallest, largest = float(np.finfo(exact_name).tiny), float(np.finfo(exact_name).max)
    most, least, lower = exponents(exact_name)
    function = judge.bind(
        block_sums=block_sums_function(),
        totals=device_function(ordered_totals.bind(WIDTH=width)),
        overflows=device_function(overflows.bind(WIDTH=width, SCALAR=scalar)),
        WIDTH=width,
        SCALAR=scalar,
        SMALLEST=smallest,
        LARGEST=largest,
        MOST=most,
        LEAST=least,
        LOWER=lower,
        PRODUCTS=states > 0,
        BEFORE=before,
    )
    like, exact = types.CPointer(STORAGE[storage]), types.CPointer(scalar)
    arrays = (_longs, _i64, _i64, like, _doubles, _doubles)
    signature = (*arrays, _f64, _i64, exact, _f64, _f64, _i64, _i64)
    return Kernel(function, f"guard_{'decide' if before else 'report'}_{storage}_{states}", signature, threads=THREADS)


@functools.cache
def step_kernel(rule: Rule, options: tuple[Any, ...], storage: str, master: bool, in_memory: bool) -> Kernel:
    """`step` of a rule; with `in_memory` its constants are what `hyper_kernels.prepare` wrote (decided)."""
    scalar = _f64 if storage == "float64" else types.float32
    stored, exact = types.CPointer(STORAGE[storage]), types.CPointer(scalar)
    count = rule.constant_count
    block = step_block.bind(
        update=rule.update_of(options), OPTIONS=options, STATES=len(rule.states), SCALAR=scalar, MASTER=master
    )
    function = guarded_step.bind(
        step_block=device_function(block),
        WIDTH=columns(len(rule.states)),
        STATES=len(rule.states),
        SCALAR=scalar,
        IN_MEMORY=in_memory,
        CONSTANTS=count,
    )
    states = types.UniTuple(exact, len(rule.states))
    constants = exact if in_memory else types.UniTuple(scalar, count)
    signature = (_longs, _i64, _i64, stored, states, exact, _doubles, _doubles, _i64, _f64, _f64, constants)
    kind = f"guarded_{storage}{'_master' if master else ''}{'_memory' if in_memory else ''}"
    return Kernel(function, f"{rule.kernel_name(options)}_{kind}", signature, threads=THREADS)


@template
def judge(block_sums, totals, overflows, WIDTH, SCALAR, SMALLEST, LARGEST, MOST, LEAST, LOWER, PRODUCTS, BEFORE):
    from .target import cuda

    def judge(
        table, arrays, blocks, like, sums, control, scale, scale_at, exact, clip_norm, clip_value, policy, decided
    ):
        """One thread block.  `scale_at` is the address of the loss scale, or 0 where that is `scale`."""
        stage = pointer(cuda.shared.array(STAGED, types.float64))
        thread = np.int64(cuda.threadIdx.x)
        if scale_at != 0:
            scale = np.float64(load(pointer_at(scale_at, exact), 0))
        skip = False
        if not BEFORE:
            skip = decided != UNDECIDED and load(control, SKIP) != 0.0
        squares, bad, product = totals(table, arrays, blocks, sums, thread, stage)
        if BEFORE or decided == UNDECIDED:
            root, power = sqrt(squares), 0.0
            norm = div(root, scale)
            unusual = bad == 0.0 and not ordinary(squares, 2.0**-1022, math.inf)
            if unusual and SMALLEST < 1e-300:
                # Rare, so that this block alone may do it.  (The products with the velocity were read already.)
                power = _POWER if squares < 1.0 else -_POWER
                for block in range(blocks):
                    row = row_of(table, arrays, block, WIDTH)
                    grads = pointer_at(load(table, row + GRADS), like)
                    first = (block - load(table, row + START)) * BLOCK
                    last = min(load(table, row + SIZE), first + BLOCK)
                    block_sums(grads, first, last, power_of_two(power), thread, stage)
                    cuda.syncthreads()
                    if thread == 0:
                        store(sums, SQUARES * blocks + block, chain_total(stage, SQUARES))
                    cuda.syncthreads()
                squares = totals(table, arrays, blocks, sums, thread, stage)[0]
                root, power = sqrt(squares), -power
                norm = value(*quotient(root, power, scale, 0.0))
            inverse, clipped = div(1.0, scale), BEFORE and norm > clip_norm
            shrink = div(clip_norm, norm) if clipped else 1.0
            factor = mul(inverse, shrink) if clipped else inverse
            by = cuda.local.array(7, SCALAR)
            by[0] = by[1] = by[2] = by[3] = by[4] = by[5] = by[6] = SCALAR(1)
            scaled = False
            if BEFORE and bad == 0.0:
                normal = ordinary(inverse, 2.0**-1022, math.inf) and ordinary(shrink, 2.0**-1022, math.inf)
                if not (normal and ordinary(factor, SMALLEST, LARGEST)):
                    scaled, factor = True, 1.0
                    above, below, less = (clip_norm, root, power) if clipped else (1.0, scale, 0.0)
                    m, e = quotient(above, 0.0, below, less)  # called once: over two calls NVVM 13.0 did not end
                    steps = scale_steps(m, e, MOST, LEAST, LOWER)
                    for k in range(7):
                        by[k] = SCALAR(steps[k])
            if bad == 0.0 and not clip_value < math.inf and min(norm, clip_norm) > LARGEST / 2:
                bad = overflows(table, arrays, like, by, SCALAR(factor), thread, stage)
            valid = scale > 0.0 and scale < math.inf
            if BEFORE:
                skip = (bad > 0.0 and policy != PROPAGATE) or not valid
            if thread == 0:
                store(control, NORM, norm if valid else math.nan)
                store(control, COUNT, bad)
                if BEFORE:
                    store(control, FACTOR, factor)
                    store(control, SCALED, 1.0 if scaled else 0.0)
                    for k in range(7):
                        store(control, STEPS + k, np.float64(by[k]))
        if thread == 0:
            if BEFORE or decided == UNDECIDED:  # otherwise other threads may still be reading it
                store(control, SKIP, 1.0 if skip else 0.0)
            if not BEFORE:
                store(control, PRODUCT, math.nan if skip or not PRODUCTS else div(product, scale))
                store(control, SKIPPED, load(control, SKIPPED) + (1.0 if skip else 0.0))

    return judge


@inlined
def ordinary(x, smallest, largest):
    """Is `x`, from 0 on, finite and among the normal numbers of a type with these limits?"""
    return x >= smallest and x <= largest and x < math.inf


@template
def guarded_step(step_block, WIDTH, STATES, SCALAR, IN_MEMORY, CONSTANTS):
    from .target import cuda

    def guarded_step(table, arrays, blocks, params, states, master, sums, control, decided, factor, limit, scalars):
        """The pointers `params`, `states` and `master` only tell their types.

        What the gradients are multiplied by stands in `control` where it was decided on the device, else in `factor`.
        """
        chains = pointer(cuda.shared.array(CHAINS, types.float64))
        thread = np.int64(cuda.threadIdx.x)
        by, scaled = cuda.local.array(7, SCALAR), False
        if decided != UNDECIDED:
            if load(control, SKIP) != 0.0:
                return
            factor, scaled = load(control, FACTOR), load(control, SCALED) != 0.0
            for k in range(7):
                by[k] = SCALAR(load(control, STEPS + k))
        if IN_MEMORY:
            constants = load_strided(scalars, 1, 1, CONSTANTS)
        else:
            constants = scalars
        for block in range(cuda.blockIdx.x, blocks, cuda.gridDim.x):
            row = row_of(table, arrays, block, WIDTH)
            first = (block - load(table, row + START)) * BLOCK
            last = min(load(table, row + SIZE), first + BLOCK)
            step_block(
                pointer_at(load(table, row + PARAMS), params),
                pointer_at(load(table, row + GRADS), params),
                pointers_at(table, row + GRADS + 1, states),
                pointer_at(load(table, row + GRADS + 1 + STATES), master),
                first,
                last,
                thread,
                SCALAR(factor),
                SCALAR(limit),
                scaled,
                by,
                constants,
                chains,
            )
            cuda.syncthreads()
            if thread < COLUMNS:
                store(sums, thread * blocks + block, chain_total(chains, thread))
            cuda.syncthreads()

    return guarded_step


@template
def step_block(update, OPTIONS, STATES, SCALAR, MASTER):
    from .target import cuda

    STATE_ITEMS = max(1, STATES * ROWS)

    def step_block(params, grads, states, master, first, last, thread, factor, limit, scaled, by, scalars, chains):
        """Step every LANES-th element of a block, ROWS of them at a time; its chains of sums to `chains`."""
        p, g = cuda.local.array(ROWS, SCALAR), cuda.local.array(ROWS, SCALAR)
        s = cuda.local.array(STATE_ITEMS, SCALAR)
        squares = bad = dot = 0.0
        start = first + thread
        while start < last:
            for r in range(ROWS):
                i = start + r * LANES
                if i < last:
                    p[r], g[r] = load(master, i) if MASTER else load(params, i), load(grads, i)
                    place_each(s, r, ROWS, load_each(states, i))
            for r in range(ROWS):
                i = start + r * LANES
                if i < last:
                    used = g[r]
                    if scaled:
                        used = stepped(used, by)
                    used = mul(factor, used)
                    used = limit if used > limit else -limit if used < -limit else used  # NaN stays
                    after, state = update(p[r], used, pick_each(s, r, ROWS, STATES), scalars, OPTIONS)
                    store(params, i, after)
                    if MASTER:
                        store(master, i, after)
                    store_each(states, i, state)
                    wide = np.float64(g[r])
                    squares = fma(wide, wide, squares)
                    bad = add(bad, 0.0 if abs(wide) < math.inf else 1.0)
                    dot = fma(np.float64(state[0]) if STATES else wide, wide, dot)
            start += ROWS * LANES
        store(chains, SQUARES * LANES + thread, squares)
        store(chains, BAD * LANES + thread, bad)
        store(chains, DOT * LANES + thread, dot)

    return step_block
