"""The loops over contiguous memory: a rule for each element of a range, of a mask's bytes, or of a list of places."""

from __future__ import annotations

from .pointers import STREAMS, load_each, peek, peek_each, poke, poke_each, store_each
from .processor import widest_vectors
from .template import template

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
