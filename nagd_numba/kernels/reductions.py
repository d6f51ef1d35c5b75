"""Sums over gradients, alone or in the pass of a step, in an order that nothing but the length decides.

Elements belong to blocks of BLOCK, and those of a block to LANES chains of additions in float64; the chains are added
up in order, then the blocks.  So the sums have equal bits for any number of threads and on any processor.

In the pass of a step a block is summed after its elements were stepped, while it is in the cache.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload
from numba.np.numpy_support import from_dtype

from . import statuses
from .elementwise import acceptable, all_finite, limits
from .forms import Forms, run_shares
from .jit import inlined, kernel, subroutine
from .linking import Interface, Linked, linked
from .overlap import memory_status
from .parallel import BODY
from .pointers import load_each, pointer, pointers, restorer, shifted, spill, store_each
from .rounding import add, fma, mul
from .rule import Rule
from .template import template

BLOCK = 4096
LANES = 64  # chains of additions in a block
SQUARES, BAD, DOT = range(3)  # columns of `sums`: of g^2, of elements that are not finite, of the first state times g
COLUMNS = 3

_SUMS = types.Array(types.float64, 2, "C")
_SUMS_POINTER = types.CPointer(types.float64)
_size = types.int64


@template
def gradient_sums(run):
    """Fill `sums`, but for its column DOT."""

    def gradient_sums(grads, sums, forms):
        blocks = sums.shape[0] - 1
        run(spill((pointer(grads), np.int64(grads.size), pointer(sums))), blocks, grads.size, forms)
        total(sums, blocks)

    return gradient_sums


@template
def guarded_step(run, constants, OPTIONS, LOW, BELOW):
    """A step with the gradient times `factor`, cut to at most `limit` in size; `sums` are those of the gradient."""

    def guarded_step(params, grads, states, hyper, factor, limit, sums, forms):
        status = memory_status(params, grads, states)
        if status != statuses.OK:
            return status
        T = params.dtype.type
        scalars = constants(hyper, T, OPTIONS)
        if not (acceptable(hyper, LOW, BELOW) and all_finite(scalars)):
            return statuses.HYPER
        blocks = sums.shape[0] - 1
        arrays = (pointer(params), pointer(grads), pointers(states), np.int64(params.size))
        run(spill((*arrays, scalars, T(factor), T(limit), pointer(sums))), blocks, params.size, forms)
        total(sums, blocks)
        return statuses.OK

    return guarded_step


@template
def gradient_block(restore):
    def gradient_block(context, block):
        grads, size, sums = restore(context)
        squares, bad = np.zeros(LANES), np.zeros(LANES)
        first, last = block * BLOCK, min(size, (block + 1) * BLOCK)
        whole = first + (last - first) // LANES * LANES
        for i in range(first, whole, LANES):
            for e in range(LANES):
                add_element(squares, bad, e, np.float64(grads[i + e]))
        for i in range(whole, last):
            add_element(squares, bad, i - whole, np.float64(grads[i]))
        result = shifted(sums, block * COLUMNS)
        result[DOT] = 0.0
        result[SQUARES] = total_of_chains(squares)
        result[BAD] = total_of_chains(bad)

    return gradient_block


@template
def guarded_block(update, OPTIONS, restore):
    def guarded_block(context, block):
        params, grads, states, size, scalars, factor, limit, sums = restore(context)
        first, last = block * BLOCK, min(size, (block + 1) * BLOCK)
        for i in range(first, last):
            g = mul(factor, grads[i])
            g = limit if g > limit else -limit if g < -limit else g  # NaN stays
            params[i], state = update(params[i], g, load_each(states, i), scalars, OPTIONS)
            store_each(states, i, state)
        velocity = first_of(states, grads)
        squares, bad, dot = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
        whole = first + (last - first) // LANES * LANES
        for i in range(first, whole, LANES):
            for e in range(LANES):
                g = np.float64(grads[i + e])
                add_element(squares, bad, e, g)
                dot[e] = fma(np.float64(velocity[i + e]), g, dot[e])
        for i in range(whole, last):
            g = np.float64(grads[i])
            add_element(squares, bad, i - whole, g)
            dot[i - whole] = fma(np.float64(velocity[i]), g, dot[i - whole])
        result = shifted(sums, block * COLUMNS)
        result[SQUARES] = total_of_chains(squares)
        result[BAD] = total_of_chains(bad)
        result[DOT] = total_of_chains(dot)

    return guarded_block


def first_of(states, otherwise):
    """The first state, or something else where there is none."""
    return states[0] if states else otherwise


@overload(first_of, inline="always")
def _overload_first_of(states, otherwise):
    return (lambda states, otherwise: states[0]) if len(states) else (lambda states, otherwise: otherwise)


@inlined
def add_element(squares, bad, e, g):
    """Add the square of `g` to chain `e` of `squares`, and to that of `bad` whether it is not finite."""
    squares[e] = fma(g, g, squares[e])
    bad[e] = add(bad[e], 0.0 if abs(g) < math.inf else 1.0)


@inlined
def total_of_chains(chains):
    """Their sum, in order."""
    total = 0.0
    for e in range(LANES):
        total = add(total, chains[e])
    return total


@inlined
def total(sums, blocks):
    """The last row becomes the sum of the others."""
    for k in range(COLUMNS):
        sums[blocks, k] = 0.0
        for b in range(blocks):
            sums[blocks, k] = add(sums[blocks, k], sums[b, k])


@template
def over_blocks(locate):
    def over_blocks(context, blocks, length, forms):
        run_shares(locate(), context, blocks, length, forms)

    return over_blocks


def _over_blocks(function: Any) -> Any:
    return subroutine(over_blocks.bind(locate=linked(function, BODY, allocates=True).locate))


@template
def sum_of_squares():
    """The sum of `x[first:last]^2` in float64; `lanes` is memory for LANES numbers."""

    def sum_of_squares(x, first, last, lanes):
        for e in range(LANES):
            lanes[e] = 0.0
        whole = first + (last - first) // LANES * LANES
        for i in range(first, whole, LANES):
            for e in range(LANES):
                value = np.float64(x[i + e])
                lanes[e] = fma(value, value, lanes[e])
        for i in range(whole, last):
            value = np.float64(x[i])
            lanes[i - whole] = fma(value, value, lanes[i - whole])
        return total_of_chains(lanes)

    return sum_of_squares


@functools.cache
def squares_interface(dtype: str) -> Interface:
    """A vector of this dtype, first, last, memory for LANES numbers."""
    x = types.CPointer(from_dtype(np.dtype(dtype)))
    return Interface(types.float64(x, _size, _size, _SUMS_POINTER))


@functools.cache
def squares_function(dtype: str) -> Linked:
    """`sum_of_squares`."""
    return linked(sum_of_squares.bind(), squares_interface(dtype))


@functools.cache
def gradient_kernel(dtype: np.dtype) -> Any:
    """`gradient_sums(grads, sums, forms)`."""
    kind = from_dtype(dtype)
    restore = restorer(types.Tuple((types.CPointer(kind), _size, _SUMS_POINTER)))
    blocks = _over_blocks(gradient_block.bind(restore=restore))
    array = types.Array(kind, 1, "C", readonly=True)
    return kernel(gradient_sums.bind(run=blocks), types.void(array, _SUMS, _size))


@functools.cache
def step_kernel(rule: Rule, options: tuple[Any, ...], dtype: np.dtype) -> Any:
    """`guarded_step(params, grads, states, hyper, factor, limit, sums, forms) -> status` of a rule."""
    kind = from_dtype(dtype)
    x, states = types.CPointer(kind), len(rule.states)
    scalars = types.UniTuple(kind, rule.constant_count)
    context = types.Tuple((x, x, types.UniTuple(x, states), _size, scalars, kind, kind, _SUMS_POINTER))
    block = guarded_block.bind(update=rule.update_of(options), OPTIONS=options, restore=restorer(context))
    bound = guarded_step.bind(run=_over_blocks(block), constants=rule.constants, OPTIONS=options, **limits(rule))
    array, read = kind[::1], types.Array(kind, 1, "C", readonly=True)
    hyper = types.UniTuple(types.float64, len(rule.hyper))
    given = (array, read, types.UniTuple(array, states), hyper, types.float64, types.float64, _SUMS, _size)
    return kernel(bound, types.int64(*given))


@functools.cache
def forms_of(*kernel_: Any) -> Forms:
    """What the calls of a kernel took: by what `gradient_kernel` or `step_kernel` is given."""
    return Forms()


def new_sums(size: int) -> np.ndarray:
    """Memory for `sums`: a row for each block, and a last one for the totals."""
    return np.empty((-(-size // BLOCK) + 1, COLUMNS))
