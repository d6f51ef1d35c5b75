"""The loops that carry a rule over arrays: they move data, the rule does the arithmetic.

All of them take

    params, grads   arrays of one dtype and shape
    states          a tuple of such arrays
    hyper           a tuple of float64 hyper-parameters

and return a status; anything but `OK` means that nothing was written.  The loop itself (`loops`) is compiled once for a
rule, its options and a dtype; `segments` calls it for contiguous vectors, whole or in shares.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from . import blocks, loops
from .jit import inlined, kernel, subroutine
from .linking import Interface, Linked, linked
from .overlap import (
    MASKS,
    any_overlaps_itself,
    any_strided_overlap,
    memory_status,
    overlapping,
    overlaps_itself,
    sizes,
    written,
)
from .pointers import addresses, pointer, pointers
from .processor import masked_stores
from .rule import Rule
from .statuses import HYPER, LENGTH, NULL, OK, OVERLAP
from .template import template

LONGEST = 2**63 - 1  # bytes
SHARES_PER_THREAD = 4  # of a parallel pass: threads that are fewer than Numba's still get nearly equal parts
LINE = blocks.BLOCK  # elements: shares begin at multiples of it, so that no two threads write to one line of the cache


@template
def serial(loop):
    def serial(params, grads, states, size, scalars):
        loop(params, grads, states, 0, size, scalars)

    return serial


@template
def contiguous(run, constants, OPTIONS, LOW, BELOW):
    """One pass over contiguous vectors."""

    def contiguous(params, grads, states, hyper):
        status = memory_status(params, grads, states)
        if status != OK:
            return status
        if not acceptable(hyper, LOW, BELOW):
            return HYPER
        scalars = constants(hyper, params.dtype.type, OPTIONS)
        if not all_finite(scalars):
            return HYPER
        run(pointer(params), pointer(grads), pointers(states), params.size, scalars)
        return OK

    return contiguous


@template
def strided(element, constants, OPTIONS, LOW, BELOW):
    """One pass over arrays of any strides, of one shape.  Shapes and overlap are the caller's to check."""

    def strided(params, grads, states, hyper):
        if not acceptable(hyper, LOW, BELOW):
            return HYPER
        scalars = constants(hyper, params.dtype.type, OPTIONS)
        if not all_finite(scalars):
            return HYPER
        for i in np.ndindex(params.shape):
            element(params, grads, states, i, scalars)
        return OK

    return strided


@template
def any_element(update, OPTIONS):
    def any_element(params, grads, states, i, scalars):
        params[i], state = update(params[i], grads[i], gather(states, i), scalars, OPTIONS)
        scatter(states, i, state)

    return any_element


@template
def element_with_byte(update, OPTIONS):
    def element_with_byte(params, grads, states, i, scalars):
        if states[-1][i] != 0:
            params[i], state = update(params[i], grads[i], gather(states[:-1], i), scalars, OPTIONS)
            scatter(states, i, state)

    return element_with_byte


@template
def strided_checked(strided):
    """`strided` for compiled callers, whose arrays nobody has checked."""

    def strided_checked(params, grads, states, hyper):
        status = any_strided_overlap((params, grads, *states))
        if status != OK or overlaps_itself(params) or any_overlaps_itself(states):
            return OVERLAP
        return strided(params, grads, states, hyper)

    return strided_checked


@template
def from_pointers(overlap, values, default_loop, any_loop, constants, OPTIONS, COUNTS, LOW, BELOW, T, ITEMSIZE):
    """One pass over `size` elements behind each pointer; `options` are int64, known only when it runs."""

    def from_pointers(params, grads, states, size, hyper, options):
        if size < 0 or size > LONGEST // ITEMSIZE:
            return LENGTH
        if size > 0:
            for place in addresses((params, grads, *states)):
                if place == 0:
                    return NULL
        if overlap(addresses((params, grads, *states)), size, size):
            return OVERLAP
        for k in range(len(options)):
            if options[k] < 0 or options[k] >= COUNTS[k]:
                return HYPER
        status = values(size, states, hyper)
        if status != OK:
            return status
        if not acceptable(hyper, LOW, BELOW):
            return HYPER
        scalars = constants(hyper, T, options)
        if not all_finite(scalars):
            return HYPER
        if options == OPTIONS:  # the usual ones, compiled into a loop of their own
            default_loop(params, grads, states, 0, size, scalars)
        else:
            any_loop(params, grads, states, 0, size, scalars, options)
        return OK

    return from_pointers


def loop_interface(rule: Rule, dtype: types.Type) -> Interface:
    """The types of a loop over a range, for a rule."""
    return Interface(types.void(*_arguments(rule, dtype)))


def _arguments(rule: Rule, dtype: types.Type) -> tuple[types.Type, ...]:
    x = types.CPointer(dtype)
    states: Any = types.UniTuple(x, rule.moved - 2)
    if rule.mask:
        states = types.Tuple([*states, types.CPointer(MASKS[rule.mask])])
    return x, x, states, types.int64, types.int64, scalars_type(rule, dtype)


def scalars_type(rule: Rule, dtype: types.Type) -> types.UniTuple:
    """The type of the constants of a rule, for parameters of this type."""
    return types.UniTuple(types.float64 if rule.exact else dtype, rule.constant_count)


@functools.cache
def linked_loop(rule: Rule, options: tuple[Any, ...], dtype: types.Type) -> Linked:
    """The loop over a range, compiled by itself."""
    return linked(range_loop(rule, options), loop_interface(rule, dtype), on_disk=not rule.of_users)


def range_loop(rule: Rule, options: tuple[Any, ...]) -> Any:
    """The loop over a range of the elements, or of the places of a mask."""
    loop = {"": loops.over_range, "bytes": loops.over_bytes, "places": loops.over_places}[rule.mask]
    slots: dict[str, Any] = {"update": rule.update_of(options), "OPTIONS": options}
    if rule.mask != "bytes" or masked_stores():
        return loop.bind(**slots)
    whole, places = (subroutine(x.bind(**slots)) for x in (loops.over_range, loops.over_places))
    return blocks.over_blocks.bind(whole=whole, places=places)


def limits(rule: Rule) -> dict[str, Any]:
    """The slots LOW and BELOW: the ranges of the hyper-parameters."""
    return {
        "LOW": tuple(float(rule.range_of(name).low) for name in rule.hyper),
        "BELOW": tuple(float(rule.range_of(name).below) for name in rule.hyper),
    }


@functools.cache
def strided_kernel(rule: Rule, options: tuple[Any, ...], signature: tuple[types.Type, ...]) -> Any:
    """`kernel(params, grads, states, hyper) -> status` for arrays of any strides, of one shape, that do not overlap."""
    return kernel(strided_loop(rule, options), signature, on_disk=not rule.of_users)


def strided_loop(rule: Rule, options: tuple[Any, ...]) -> Any:
    """The loop over arrays of any strides."""
    template_ = element_with_byte if rule.mask else any_element
    element = subroutine(template_.bind(update=rule.update_of(options), OPTIONS=options))
    return strided.bind(element=element, constants=rule.constants, OPTIONS=options, **limits(rule))


@functools.cache
def loop_for_callers(rule: Rule, options: tuple[Any, ...], contiguous_: bool) -> Any:
    """The same for users' compiled code, which it is compiled into: serial, and safe inside `prange`.

    For `contiguous_` arrays lengths and overlap are checked.
    """
    slots = {"constants": rule.constants, "OPTIONS": options, **limits(rule)}
    if contiguous_:
        run = serial.bind(loop=subroutine(range_loop(rule, options)))
        return subroutine(contiguous.bind(run=subroutine(run), **slots))
    return subroutine(strided_checked.bind(strided=subroutine(strided_loop(rule, options))))


@subroutine
def any_values(size, states, hyper):
    """Of arrays in which every value is fit."""
    return OK


@functools.cache
def pointer_loop(rule: Rule, dtype: np.dtype, values: Any = any_values) -> Any:
    """`loop(params, grads, states, size, hyper, options) -> status`, for compiled code that has pointers.

    `values(size, states, hyper) -> status` looks at what is in arrays.
    """
    defaults = tuple(map(int, rule.defaults()))
    loop_with_options = loops.over_bytes_with_options if rule.mask else loops.over_range_with_options
    bound = from_pointers.bind(
        overlap=subroutine(overlapping.bind(WRITTEN=written(rule), SIZES=sizes(rule, dtype.itemsize))),
        values=values,
        default_loop=subroutine(range_loop(rule, defaults)),
        any_loop=subroutine(loop_with_options.bind(update=rule.update)),
        constants=rule.constants,
        OPTIONS=defaults,
        COUNTS=tuple(map(len, rule.options.values())),
        T=dtype.type,
        ITEMSIZE=dtype.itemsize,
        **limits(rule),
    )
    return subroutine(bound)


@inlined
def acceptable(hyper, low, below):
    """Is every hyper-parameter in its range?  (Whether those that must be are whole is the caller's to check.)"""
    good = True
    for k in range(len(hyper)):
        good &= hyper[k] >= low[k] and hyper[k] < below[k]
    return good


@inlined
def all_finite(scalars):
    """Is every constant finite?  (A large float64 overflows in float32.)"""
    good = True
    for value in scalars:
        good &= math.isfinite(value)
    return good


def gather(arrays, i):
    """Element `i` of each array of a tuple, as a tuple."""
    return tuple(array[i] for array in arrays)


def scatter(arrays, i, values):
    """Write `values[k]` to element `i` of `arrays[k]`, for each of the values."""
    for array, value in zip(arrays, values, strict=False):
        array[i] = value


# Compiled code needs tuples of known length written out.
@overload(gather, inline="always")
def _overload_gather(arrays, i):
    parts = "".join(f"arrays[{k}][i], " for k in range(len(arrays)))
    return eval(f"lambda arrays, i: ({parts})")


@overload(scatter, inline="always")
def _overload_scatter(arrays, i, values):
    lines = "".join(f"    arrays[{k}][i] = values[{k}]\n" for k in range(len(values)))
    namespace: dict[str, Any] = {}
    exec(f"def write(arrays, i, values):\n{lines or '    pass'}", namespace)
    return namespace["write"]
