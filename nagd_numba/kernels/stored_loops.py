"""The loops and kernels that carry a rule over arrays of small storage, on the CPU.

params, grads   float32, or 16-bit integers that stand for float16 or bfloat16 (`half`)
states          a tuple: float32, or codes of 8 bits (`codes`) whose scales are in a tuple of the same length
extra           a tuple of none, or of one array: the float32 master copy, or the compensation, stored as the parameters

The rule computes in float32 on `before` and makes `after`; the form says what they are, and what is stored:

    NEAREST      before = params;                params = after, rounded to nearest
    MASTER       before = master;                master = after; params = after, rounded to nearest
    COMPENSATED  before = params + compensation; params = after, rounded to nearest; compensation = after - params, so
    RANDOM       before = params;                params = after, rounded by random bits
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import config, typeof, types

from .codes import BLOCK, is_code
from .elementwise import LINE, SHARES_PER_THREAD, acceptable, all_finite, limits
from .forms import Forms, run_shares
from .jit import inlined, kernel
from .linking import Interface, Linked, linked
from .parallel import BODY
from .pointers import pointer, pointers, restorer, shifted, spill
from .processor import widest_vectors
from .random_bits import ahead, random_bits
from .rounding import add
from .rule import Rule
from .statuses import HYPER, OK
from .stored import (
    EXTRA,
    GRADS,
    PARAMS,
    encode_each,
    keep_bits,
    load,
    load_each,
    local_memory,
    prefetch,
    rounded_like,
    scales_at,
    store,
    store_at_random,
    store_each,
)
from .template import template

NEAREST, MASTER, COMPENSATED, RANDOM = range(4)
TOGETHER = 8
AHEAD = 1024  # elements: what is that far ahead is asked for while a block is computed

_settings: Any = config  # numba's types do not list its settings


@template
def element_of(update, OPTIONS, FORM):
    def element(params, grads, extra, state, i, random, scalars):
        """Updates the parameter `i`, and returns the new state."""
        if FORM == MASTER:
            before = load(extra[0], i, EXTRA)
        elif FORM == COMPENSATED:
            before = add(load(params, i, PARAMS), load(extra[0], i, EXTRA))
        else:
            before = load(params, i, PARAMS)
        after, state = update(before, load(grads, i, GRADS), state, scalars, OPTIONS)
        if FORM == RANDOM:
            store_at_random(params, i, after, random, PARAMS)
        else:
            store(params, i, after, PARAMS)
        if FORM == MASTER:
            store(extra[0], i, after, EXTRA)
        elif FORM == COMPENSATED:
            store(extra[0], i, add(after, -rounded_like(params, after)), EXTRA)
        return state

    return element


@template
def by_element(element):
    """Where no state has codes.  `index` is the number of the first element of the arrays in the step."""

    def by_element(params, grads, extra, states, scales, first, last, index, key, other, scalars):
        widest_vectors()
        nothing = scales_at(states, scales, 0)
        for i in range(first, last):
            random = random_bits(index, i, key, other)
            state = element(params, grads, extra, load_each(states, i, nothing), i, random, scalars)
            store_each(states, i, state, params, 0)

    return by_element


@template
def by_block(element, STATES, ROW, SIZE, AHEAD):
    """`first` is a multiple of BLOCK.

    The values of TOGETHER blocks are put aside before they become codes: read back at once, in wider pieces than they
    were written in, they would have to be waited for.
    """

    @inlined
    def update_block(params, grads, extra, states, scales, block, count, memory, index, key, other, scalars):
        now, start = scales_at(states, scales, block), block * BLOCK
        first = ahead(index, start)
        if AHEAD > 0:
            prefetch(params, start + AHEAD)
            prefetch(grads, start + AHEAD)
        for j in range(count):
            i = start + j
            random = random_bits(first, j, key, other)
            keep_bits(memory, STATES * BLOCK + j, random)
            state = element(params, grads, extra, load_each(states, i, now), i, random, scalars)
            store_each(states, i, state, memory, j)

    def by_block(params, grads, extra, states, scales, first, last, index, key, other, scalars):
        widest_vectors()
        memory = local_memory(SIZE)
        block, whole = first // BLOCK, last // BLOCK
        while block < whole:
            many = min(TOGETHER, whole - block)
            for k in range(many):
                at = shifted(memory, k * ROW)
                update_block(params, grads, extra, states, scales, block + k, BLOCK, at, index, key, other, scalars)
            for k in range(many):
                at, start = shifted(memory, k * ROW), ahead(index, (block + k) * BLOCK)
                encode_each(states, scales, block + k, BLOCK, at, start, key, other)
            block += many
        rest = last % BLOCK
        if rest > 0:
            update_block(params, grads, extra, states, scales, whole, rest, memory, index, key, other, scalars)
            encode_each(states, scales, whole, rest, memory, ahead(index, whole * BLOCK), key, other)

    return by_block


@template
def share_of_range(loop, restore):
    def share_of_range(context, share):
        params, grads, extra, states, scales, size, index, key, other, shares, scalars = restore(context)
        length = ((size + shares - 1) // shares + LINE - 1) // LINE * LINE
        first, last = min(size, share * length), min(size, (share + 1) * length)
        loop(params, grads, extra, states, scales, first, last, index, key, other, scalars)

    return share_of_range


@template
def contiguous(locate, constants, OPTIONS, LOW, BELOW, SHARES):
    """One pass over vectors that are checked."""

    def contiguous(params, grads, extra, states, scales, index, key, other, hyper, forms):
        if not acceptable(hyper, LOW, BELOW):
            return HYPER
        scalars = constants(hyper, np.float32, OPTIONS)
        if not all_finite(scalars):
            return HYPER
        shares = SHARES if forms != 0 else 1
        arrays = pointer(params), pointer(grads), pointers(extra), pointers(states), pointers(scales)
        context = spill((*arrays, np.int64(params.size), index, key, other, np.int64(shares), scalars))
        run_shares(locate(), context, shares, params.size, forms)
        return OK

    return contiguous


def _pointers(rule: Rule, signature: tuple[Any, ...]) -> tuple[types.Type, ...]:
    """The types of the pointers, by those of the arrays."""
    params, grads, *tuples = signature[:5]
    return (
        types.CPointer(params.dtype),
        types.CPointer(grads.dtype),
        *(types.Tuple([types.CPointer(x.dtype) for x in arrays]) for arrays in tuples),
    )


@functools.cache
def _linked_loop(rule: Rule, options: tuple[Any, ...], form: int, signature: tuple[Any, ...]) -> Linked:
    element = inlined(element_of.bind(update=rule.update_of(options), OPTIONS=options, FORM=form))
    states: Any = signature[3]
    if any(is_code(x.dtype) for x in states):
        row = (len(rule.states) + 1) * BLOCK  # with the random bits
        loop = by_block.bind(element=element, STATES=len(rule.states), ROW=row, SIZE=TOGETHER * row, AHEAD=AHEAD)
    else:
        loop = by_element.bind(element=element)
    scalars = types.UniTuple(types.float32, rule.constant_count)
    numbers = (types.int64,) * 2 + (types.uint32,) * 3
    return linked(loop, Interface(types.void(*_pointers(rule, signature), *numbers, scalars)))


@functools.cache
def _linked_share(rule: Rule, options: tuple[Any, ...], form: int, signature: tuple[Any, ...]) -> Linked:
    scalars = types.UniTuple(types.float32, rule.constant_count)
    restore = restorer(
        types.Tuple([*_pointers(rule, signature), types.int64, *(types.uint32,) * 3, types.int64, scalars])
    )
    loop = _linked_loop(rule, options, form, signature)
    return linked(share_of_range.bind(loop=loop.call, restore=restore), BODY)


def signature_of(arrays: tuple[Any, ...], hyper: int) -> tuple[types.Type, ...]:
    """The types of a kernel for params, grads and the tuples of the other arrays."""
    return (*map(typeof, arrays), *(types.uint32,) * 3, types.UniTuple(types.float64, hyper), types.int64)


@functools.cache
def stored_kernel(
    rule: Rule, options: tuple[Any, ...], form: int, signature: tuple[types.Type, ...]
) -> tuple[Any, Forms]:
    """`kernel(params, grads, extra, states, scales, index, key, other key, hyper, forms) -> status`; and its forms."""
    checked = contiguous.bind(
        locate=_linked_share(rule, options, form, signature).locate,
        constants=rule.constants,
        OPTIONS=options,
        SHARES=SHARES_PER_THREAD * int(_settings.NUMBA_NUM_THREADS),
        **limits(rule),
    )
    return kernel(checked, signature), Forms()
