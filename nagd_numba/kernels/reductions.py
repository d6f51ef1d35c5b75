"""Sums over gradients, alone or in the pass of a step, in an order that nothing but the length decides.

Elements belong to blocks of BLOCK, and those of a block to LANES chains of additions in float64; the chains are added
up in order, then the blocks.  So the sums have equal bits for any number of threads and on any processor.

In the pass of a step a block is summed after its elements were stepped, while it is in the cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange, types
from numba.np.numpy_support import from_dtype

from ..optimizers._host import vectors
from . import elementwise
from .elementwise import acceptable, all_finite, gather, memory_status, scatter
from .jit import callee, cpu_kernel
from .rounding import add, fma, mul
from .rule import Rule

BLOCK = 4096
LANES = 64
SQUARES, BAD, DOT = range(3)  # columns of `sums`: of g^2, of elements that are not finite, of the first state times g

# Bound below.
update: Any = None
constants: Any = None
OPTIONS: Any = None
LOW: Any = None
BELOW: Any = None
element: Any = None
block: Any = None
block_sums: Any = None

_SUMS = types.Array(types.float64, 2, "C")


@functools.cache
def gradient_kernel(dtype: np.dtype, parallel: bool) -> Callable:
    """`gradient_sums(grads, sums)`."""
    array = types.Array(from_dtype(dtype), 1, "C", readonly=True)
    return cpu_kernel(
        gradient_sums, f"gradient_sums_{dtype}", (array, _SUMS), parallel, block_sums=callee(sum_gradients)
    )


@functools.cache
def step_kernel(rule: Rule, options: tuple[Any, ...], dtype: np.dtype, parallel: bool) -> Callable:
    """`guarded_step(params, grads, states, hyper, factor, limit, sums) -> status` of a rule."""
    bound = elementwise.bindings(rule, options)
    bound["element"] = callee(step_element, update=rule.update, OPTIONS=options)
    bound["block"] = callee(step_block, element=bound["element"], block_sums=callee(sum_products))
    params, _, states, hyper = vectors(rule, dtype)
    grads = types.Array(from_dtype(dtype), 1, "C", readonly=True)
    signature = (params, grads, states, hyper, types.float64, types.float64, _SUMS)
    name = f"{rule.kernel_name(options)}_guarded"
    return cpu_kernel(guarded_step, name, signature, parallel, source=rule.update, **bound)


def new_sums(size: int) -> np.ndarray:
    """Memory for `sums`: a row for each block, and a last one for the totals."""
    return np.empty((-(-size // BLOCK) + 1, 3))


def gradient_sums(grads, sums):
    """Fill `sums`, but for its column DOT."""
    blocks = sums.shape[0] - 1
    for b in prange(blocks):
        block_sums(grads, b * BLOCK, min(grads.size, (b + 1) * BLOCK), sums[b])
    total(sums, blocks)


def guarded_step(params, grads, states, hyper, factor, limit, sums):
    """A step with the gradient times `factor`, cut to at most `limit` in size; `sums` are those of the gradient."""
    status = memory_status(params, grads, states)
    if status != elementwise.OK:
        return status
    T = params.dtype.type
    scalars = constants(hyper, T, OPTIONS)
    if not (acceptable(hyper, LOW, BELOW) and all_finite(scalars)):
        return elementwise.HYPER
    blocks = sums.shape[0] - 1
    for b in prange(blocks):
        block(params, grads, states, b * BLOCK, scalars, T(factor), T(limit), sums[b])
    total(sums, blocks)
    return elementwise.OK


def step_block(params, grads, states, first, scalars, factor, limit, result):
    last = min(params.size, first + BLOCK)
    for i in range(first, last):
        element(params, grads, states, i, scalars, factor, limit)
    block_sums(grads, states[0], first, last, result)


def step_element(params, grads, states, i, scalars, factor, limit):
    g = mul(factor, grads[i])
    g = limit if g > limit else -limit if g < -limit else g  # NaN stays
    params[i], state = update(params[i], g, gather(states, i), scalars, OPTIONS)
    scatter(states, i, state)


@elementwise.inlined
def total(sums, blocks):
    """The last row becomes the sum of the others."""
    for k in range(3):
        sums[blocks, k] = 0.0
        for b in range(blocks):
            sums[blocks, k] = add(sums[blocks, k], sums[b, k])


def sum_gradients(grads, first, last, result):
    """Sums over `grads[first:last]`."""
    squares, bad = np.zeros(LANES), np.zeros(LANES)
    whole = first + (last - first) // LANES * LANES
    for i in range(first, whole, LANES):
        for e in range(LANES):
            g = np.float64(grads[i + e])
            squares[e] = fma(g, g, squares[e])
            bad[e] = add(bad[e], 0.0 if abs(g) < math.inf else 1.0)
    for i in range(whole, last):
        g = np.float64(grads[i])
        squares[i - whole] = fma(g, g, squares[i - whole])
        bad[i - whole] = add(bad[i - whole], 0.0 if abs(g) < math.inf else 1.0)
    result[:] = 0.0
    for e in range(LANES):
        result[SQUARES] = add(result[SQUARES], squares[e])
        result[BAD] = add(result[BAD], bad[e])


def sum_products(grads, state, first, last, result):
    """The same, and the products of gradient and state."""
    squares, bad, dot = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    whole = first + (last - first) // LANES * LANES
    for i in range(first, whole, LANES):
        for e in range(LANES):
            g = np.float64(grads[i + e])
            squares[e] = fma(g, g, squares[e])
            bad[e] = add(bad[e], 0.0 if abs(g) < math.inf else 1.0)
            dot[e] = fma(np.float64(state[i + e]), g, dot[e])
    for i in range(whole, last):
        g = np.float64(grads[i])
        squares[i - whole] = fma(g, g, squares[i - whole])
        bad[i - whole] = add(bad[i - whole], 0.0 if abs(g) < math.inf else 1.0)
        dot[i - whole] = fma(np.float64(state[i]), g, dot[i - whole])
    result[:] = 0.0
    for e in range(LANES):
        result[SQUARES] = add(result[SQUARES], squares[e])
        result[BAD] = add(result[BAD], bad[e])
        result[DOT] = add(result[DOT], dot[e])
