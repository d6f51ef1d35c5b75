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

from ..elementwise import (
    HYPER,
    NULL,
    OK,
    OVERLAP,
    acceptable,
    all_finite,
    limits,
    overlaps_itself,
    range_loop,
    strided_loop,
    strided_overlap,
)
from ..jit import inlining_by_llvm, subroutine
from ..pointers import addresses, lengths, pointer, pointers
from ..rule import Rule
from ..template import template
from .parts import expression

PLACES, RATES, BOUNDS = range(NULL + 1, NULL + 4)  # statuses: places, rates or bounds that are unfit


@functools.cache
def composed_for_callers(rule: Rule, options: tuple[Any, ...], contiguous: bool, arrays: tuple[Any, ...]) -> Any:
    """`loop(params, grads, states, hyper) -> status` for `arrays` of these types, all of them, and of one shape."""
    params, grads, *states = arrays
    made = _made(rule, options, contiguous, tuple(x.dtype.bitwidth // 8 for x in arrays))
    with inlining_by_llvm():  # which takes a half to a fifth of the time
        made.compile((params, grads, types.Tuple(states), types.UniTuple(types.float64, len(rule.hyper))))
    return made


def _made(rule: Rule, options: tuple[Any, ...], contiguous: bool, sizes: tuple[int, ...]) -> Any:
    written = (True, False, *(k < len(rule.states) for k in range(len(rule.beside))))
    values = _values(rule, over_vectors if contiguous else over_shapes)
    if not contiguous:
        loop = subroutine(strided_loop(rule, options))
        return subroutine(strided_composed.bind(overlap=_strided_overlap(written), values=values, loop=loop))
    bound = contiguous_composed.bind(
        overlap=subroutine(vectors_overlap.bind(WRITTEN=written, SIZES=sizes)),
        places=subroutine(places_status if rule.mask == "places" else every_place),
        values=values,
        loop=subroutine(range_loop(rule, options)),
        constants=rule.constants,
        OPTIONS=options,
        **limits(rule),
    )
    return subroutine(bound)


@template
def contiguous_composed(overlap, places, values, loop, constants, OPTIONS, LOW, BELOW):
    def contiguous_composed(params, grads, states, hyper):
        if overlap(params, grads, states):
            return OVERLAP
        status, count = places(params, states)
        if status != OK:
            return status
        status = values(params, states, hyper)
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


@template
def vectors_overlap(WRITTEN, SIZES):
    def vectors_overlap(params, grads, states):
        """Does one that is written share memory with another?  `SIZES` are those of elements, in bytes."""
        at, counts = addresses((params, grads, *states)), lengths((params, grads, *states))
        for i in range(len(at)):
            for j in range(i):
                if (WRITTEN[i] or WRITTEN[j]) and (
                    at[i] < at[j] + counts[j] * SIZES[j] and at[j] < at[i] + counts[i] * SIZES[i]
                ):
                    return True
        return False

    return vectors_overlap


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


def _values(rule: Rule, loop: Any) -> Callable:
    """`(params, states, hyper)` -> `OK`, `RATES` or `BOUNDS`: what Python looks at in arrays before a kernel runs."""
    names, first = list(rule.hyper), len(rule.states)
    arrays = {name: f"states[{first + k}][i]" for k, name in enumerate(rule.inputs)}
    rates = []  # that each is in its range
    for name, x in arrays.items():
        if name not in ("lower", "upper"):
            here = rule.range_of(name)
            rates.append(f"({x} >= T({here.low!r})) & ({x} < T({here.below!r}))")
    made = {"rates": loop.bind(fits=expression("states, hyper, i, T", " & ".join(rates), inf=np.inf))} if rates else {}
    lower, upper = (
        arrays.get(x) or (f"T(hyper[{names.index(x)}])" if x in rule.hyper else "") for x in ("lower", "upper")
    )
    if lower and upper:
        fits = expression("states, hyper, i, T", f"not ({lower} > {upper})")
        made["bounds"] = (loop if "lower" in arrays or "upper" in arrays else once).bind(fits=fits)
    tests = [f"{x.upper()} if not {x}(params, states, hyper) else " for x in made]
    functions: dict[str, Any] = {name: subroutine(x) for name, x in made.items()}
    return expression("params, states, hyper", f"{''.join(tests)}{OK}", **functions, RATES=RATES, BOUNDS=BOUNDS)


@template
def over_vectors(fits):
    def over_vectors(params, states, hyper):
        good = True
        for i in range(params.size):
            good &= fits(states, hyper, i, params.dtype.type)
        return good

    return over_vectors


@template
def over_shapes(fits):
    def over_shapes(params, states, hyper):
        good = True
        for i in np.ndindex(params.shape):
            good &= fits(states, hyper, i, params.dtype.type)
        return good

    return over_shapes


@template
def once(fits):
    def once(params, states, hyper):
        return fits(states, hyper, 0, np.float64)

    return once
