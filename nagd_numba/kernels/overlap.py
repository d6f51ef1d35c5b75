"""Do arrays share memory?  For compiled code: arrays, and pointers with lengths."""

from __future__ import annotations

import itertools
import math
from typing import Any

from numba import types
from numba.extending import overload

from .jit import inlined
from .pointers import address, addresses, lengths
from .rule import Rule
from .statuses import LENGTH, OK, OVERLAP
from .template import template

MASKS: dict[str, Any] = {"bytes": types.uint8, "places": types.int64}  # `Rule.mask`


@inlined
def memory_status(params, grads, states):
    """`OK` where contiguous arrays have one length and share no memory."""
    for length in lengths((grads, *states)):
        if length != params.size:
            return LENGTH
    nbytes, places = params.size * params.itemsize, addresses((params, grads, *states))
    for i in range(len(places)):
        for j in range(i):
            if abs(places[i] - places[j]) < nbytes:
                return OVERLAP
    return OK


@template
def overlapping(WRITTEN, SIZES):
    def overlapping(places, size, last):
        """Does an array that is written share memory with another?

        `places` are their addresses; each has `size` elements, and the last one has `last`, of `SIZES` bytes.
        """
        count = len(places)
        for i in range(count):
            for j in range(i):
                if (WRITTEN[i] or WRITTEN[j]) and (
                    places[i] < places[j] + size * SIZES[j]
                    and places[j] < places[i] + (last if i == count - 1 else size) * SIZES[i]
                ):
                    return True
        return False

    return overlapping


def written(rule: Rule) -> tuple[bool, ...]:
    """Which arrays of a rule are written: of the parameters, the gradients and all beside them."""
    return True, False, *(k < len(rule.states) for k in range(len(rule.beside)))


def sizes(rule: Rule, itemsize: int) -> tuple[int, ...]:
    """The bytes of an element of each array, where those of the parameters have `itemsize`."""
    return (*rule.moved * [itemsize], *([MASKS[rule.mask].bitwidth // 8] if rule.mask else []))


@inlined
def strided_overlap(a, b):
    """`OK` for two arrays of one shape that share no memory; some interleaved ones are taken to overlap."""
    first, last = extent(a)
    other_first, other_last = extent(b)
    if a.size == 0 or first >= other_last or other_first >= last:
        return OK
    # Every element starts at a multiple of `grid` from its array's first: two columns of one table stay apart.
    grid = 0
    for strides in (a.strides, b.strides):
        for stride in strides:
            grid = math.gcd(grid, abs(stride))
    if grid > 0:
        apart = (address(a) - address(b)) % grid
        if apart >= b.itemsize and grid - apart >= a.itemsize:
            return OK
    return OVERLAP


@inlined
def overlaps_itself(a):
    """Do elements of an array share memory?  Every stride must reach over all that smaller ones span."""
    strides, shape = a.strides, a.shape
    for d in range(len(shape)):
        reach = a.itemsize
        for e in range(len(shape)):
            if e != d and shape[e] > 1 and (abs(strides[e]), e) < (abs(strides[d]), d):
                reach += abs(strides[e]) * (shape[e] - 1)
        if shape[d] > 1 and abs(strides[d]) < reach:
            return a.size > 0
    return False


@inlined
def extent(array):
    """The addresses between which an array lies."""
    first = address(array)
    last = first + array.itemsize
    for stride, length in zip(array.strides, array.shape):  # noqa: B905  (numba knows no strict=)
        if stride < 0:
            first += stride * (length - 1)
        else:
            last += stride * (length - 1)
    return first, last


def any_strided_overlap(arrays):
    """`OK` where no two arrays of a tuple share memory: see `strided_overlap`."""
    pairs = itertools.combinations(arrays, 2)
    return OVERLAP if any(strided_overlap(a, b) != OK for a, b in pairs) else OK


def any_overlaps_itself(arrays):
    """Does one of a tuple of arrays?"""
    return any(map(overlaps_itself, arrays))


# Compiled code needs tuples of known length written out.
@overload(any_overlaps_itself, inline="always")
def _overload_any_overlaps_itself(arrays):
    tests = " or ".join(f"overlaps(arrays[{k}])" for k in range(len(arrays)))
    return eval(f"lambda arrays: {tests or False}", {"overlaps": overlaps_itself})


@overload(any_strided_overlap, inline="always")
def _overload_any_strided_overlap(arrays):
    pairs = itertools.combinations(range(len(arrays)), 2)
    tests = " or ".join(f"overlap(arrays[{i}], arrays[{j}]) != {OK}" for i, j in pairs)
    return eval(f"lambda arrays: {OVERLAP} if {tests} else {OK}", {"overlap": strided_overlap})
