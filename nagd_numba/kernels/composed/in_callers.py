"""Composed rules in users' compiled code: serial loops, with the checks that are made in Python for callers there.

They are compiled into the caller, as those of `elementwise.loop_for_callers`, and have their arguments: behind the
states lie the inputs of the rule, then its mask.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from ..elementwise import acceptable, all_finite, limits, range_loop, strided_loop
from ..jit import subroutine
from ..overlap import overlapping, overlaps_itself, sizes, strided_overlap, written
from ..pointers import addresses, lengths, pointer, pointers
from ..rule import Rule
from ..statuses import HYPER, OK, OVERLAP, PLACES
from ..template import template
from .parts import expression
from .values import over_count, over_shapes, values_of


@functools.cache
def composed_for_callers(rule: Rule, options: tuple[Any, ...], contiguous: bool, arrays: tuple[Any, ...]) -> Any:
    """`loop(params, grads, states, hyper) -> status` for `arrays` of these types, all of them, and of one shape."""
    params, grads, *states = arrays
    made = _made(rule, options, contiguous, params.dtype.bitwidth // 8)
    made.compile((params, grads, types.Tuple(states), types.UniTuple(types.float64, len(rule.hyper))))
    return made


def _made(rule: Rule, options: tuple[Any, ...], contiguous: bool, itemsize: int) -> Any:
    if not contiguous:
        values = values_of(rule, over_shapes.bind)
        loop = subroutine(strided_loop(rule, options))
        return subroutine(strided_composed.bind(overlap=_strided_overlap(written(rule)), values=values, loop=loop))
    T = np.float32 if itemsize == 4 else np.float64
    bound = contiguous_composed.bind(
        overlap=subroutine(overlapping.bind(WRITTEN=written(rule), SIZES=sizes(rule, itemsize))),
        places=subroutine(places_status if rule.mask == "places" else every_place),
        values=values_of(rule, functools.partial(over_count.bind, T=T)),
        loop=subroutine(range_loop(rule, options)),
        constants=rule.constants,
        OPTIONS=options,
        **limits(rule),
    )
    return subroutine(bound)


@template
def contiguous_composed(overlap, places, values, loop, constants, OPTIONS, LOW, BELOW):
    def contiguous_composed(params, grads, states, hyper):
        if overlap(addresses((params, grads, *states)), params.size, lengths(states)[-1]):
            return OVERLAP
        status, count = places(params, states)
        if status != OK:
            return status
        status = values(params.size, states, hyper)
        if status != OK:
            return status
        if not acceptable(hyper, LOW, BELOW):
            return HYPER
        scalars = constants(hyper, params.dtype.type, OPTIONS)
        if not all_finite(scalars):
            return HYPER
        loop(pointer(params), pointer(grads), pointers(states), 0, count, scalars)
        return OK

    return contiguous_composed


@template
def strided_composed(overlap, values, loop):
    def strided_composed(params, grads, states, hyper):
        if overlap((params, grads, *states)):
            return OVERLAP
        status = values(params, states, hyper)
        if status != OK:
            return status
        return loop(params, grads, states, hyper)

    return strided_composed


def _strided_overlap(written: tuple[bool, ...]) -> Callable:
    """The same for a tuple of arrays of one shape and any strides, which are written with no element twice."""
    tests = [
        f"(overlap(arrays[{i}], arrays[{j}]) != {OK})"
        for i in range(len(written))
        for j in range(i)
        if written[i] or written[j]
    ]
    tests += [f"itself(arrays[{k}])" for k in range(len(written)) if written[k]]
    return expression("arrays", " or ".join(tests), overlap=strided_overlap, itself=overlaps_itself)


def every_place(params, states):
    """A status, and how many elements the loop goes through."""
    return OK, params.size


def places_status(params, states):
    """The same for a mask of places."""
    mask, last, good = states[-1], np.int64(-1), True
    for k in range(len(mask)):
        good &= mask[k] > last
        last = mask[k]
    return OK if good and last < params.size else PLACES, len(mask)
