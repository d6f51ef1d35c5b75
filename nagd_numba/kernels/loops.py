"""The loops over contiguous memory: a rule for each element of a range, of a mask's bytes, or of a list of places."""

from __future__ import annotations

import numpy as np

from .pointers import STREAMS, bits, indices, load_each, peek, peek_each, poke, poke_each, store_each
from .processor import widest_vectors
from .template import template

BLOCK = 64  # elements that a mask is looked at for together: a bit for each
NONE, EVERY, MIXED = 0, -1, 1
MASK_STREAM = STREAMS - 1


@template
def over_range(update, OPTIONS):
    def over_range(params, grads, states, first, last, scalars):
        widest_vectors()
        for i in range(first, last):
            p, state = update(peek(params, i, 0), peek(grads, i, 1), peek_each(states, i, 2), scalars, OPTIONS)
            poke(params, i, p, 0)
            poke_each(states, i, state, 2)

    return over_range


@template
def over_bytes(update, OPTIONS):
    """The same for elements whose byte in the last array is not 0."""

    def over_bytes(params, grads, states, first, last, scalars):
        widest_vectors()
        for i in range(first, last):
            if peek(states[-1], i, MASK_STREAM) != 0:
                arrays = states[:-1]
                p, state = update(peek(params, i, 0), peek(grads, i, 1), peek_each(arrays, i, 2), scalars, OPTIONS)
                poke(params, i, p, 0)
                poke_each(arrays, i, state, 2)

    return over_bytes


@template
def over_places(update, OPTIONS):
    """The same for elements whose places are in the last array, each once: from place `first` of that array on."""

    def over_places(params, grads, states, first, last, scalars):
        for k in range(first, last):
            i = states[-1][k]
            params[i], state = update(params[i], grads[i], load_each(states[:-1], i), scalars, OPTIONS)
            store_each(states, i, state)

    return over_places


@template
def over_blocks(whole, places):
    """`over_bytes` for processors without masked stores, which take as long as a dozen others there.

    Blocks of a mask without zeros, which most are, go the way of a step without a mask, as many as follow each other;
    in blocks where the mask changes its elements are stepped one by one.
    """

    def over_blocks(params, grads, states, first, last, scalars):
        mask, arrays = states[-1], states[:-1]
        chosen = indices(BLOCK)
        start = first  # of the blocks without zeros, up to this one
        for begin in range(first, last, BLOCK):
            end = begin + BLOCK
            marks = bits(mask, begin) if end <= last else MIXED
            if marks != EVERY:
                whole(params, grads, arrays, start, begin, scalars)
                start = end
                if marks != NONE:
                    count = 0
                    for i in range(begin, min(end, last)):
                        chosen[count] = i
                        count += np.int64(mask[i] != 0)
                    places(params, grads, arrays + (chosen,), 0, count, scalars)  # noqa: RUF005
        whole(params, grads, arrays, start, last, scalars)

    return over_blocks


@template
def over_range_with_options(update):
    """The same with options that are known only when it runs."""

    def over_range_with_options(params, grads, states, first, last, scalars, options):
        for i in range(first, last):
            params[i], state = update(params[i], grads[i], load_each(states, i), scalars, options)
            store_each(states, i, state)

    return over_range_with_options


@template
def over_bytes_with_options(update):
    """The same for elements whose byte in the last array is not 0."""

    def over_bytes_with_options(params, grads, states, first, last, scalars, options):
        for i in range(first, last):
            if states[-1][i] != 0:
                params[i], state = update(params[i], grads[i], load_each(states[:-1], i), scalars, options)
                store_each(states, i, state)

    return over_bytes_with_options
