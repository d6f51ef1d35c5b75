"""The loops that carry a rule over arrays: they move data, the rule does the arithmetic.

Each loop is a template: the names in `bindings` are bound to one rule and its options before it is compiled.
All of them take

    params, grads   arrays of one dtype and shape
    states          a tuple of such arrays
    hyper           a tuple of float64 hyper-parameters (CPU), or the rule's constants in the arrays' type (CUDA)

The CPU kernels return a status; anything but `OK` means that nothing was written.  `pointers` is the one for callers in
C: it takes bare pointers, their length, and the options as numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic, overload

from .jit import callee, inlined, merged, python_callable
from .rule import Rule

OK, LENGTH, OVERLAP, HYPER, NULL = range(5)
LONGEST = 2**63 - 1  # bytes

update: Any = None
constants: Any = None
OPTIONS: Any = None
LOW: Any = None
BELOW: Any = None
COUNTS: Any = None
ITEMSIZE: Any = None
T: Any = None
element: Any = None


def bindings(rule: Rule, options: tuple[Any, ...]) -> dict[str, Any]:
    """The names that make a loop of this file the loop of a rule."""
    return {
        "update": rule.update,
        "constants": rule.constants,
        "OPTIONS": options,
        "LOW": tuple(float(rule.range_of(name).low) for name in rule.hyper),
        "BELOW": tuple(float(rule.range_of(name).below) for name in rule.hyper),
        # A function of its own, which LLVM inlines: numba's analysis of prange bodies stumbles over tuples.
        "element": callee(update_element, update=rule.update, OPTIONS=options),
    }


def pointer_bindings(rule: Rule, dtype: np.dtype) -> dict[str, Any]:
    """The same for `pointers`."""
    return bindings(rule, rule.defaults()) | {
        "OPTIONS": tuple(map(int, rule.defaults())),
        "COUNTS": tuple(map(len, rule.options.values())),
        "T": dtype.type,
        "ITEMSIZE": dtype.itemsize,
        "element": merged(pointer_element, update=rule.update),
    }


def update_element(params, grads, states, i, scalars):
    """The rule on element `i`, in place."""
    params[i], state = update(params[i], grads[i], gather(states, i), scalars, OPTIONS)
    scatter(states, i, state)


def contiguous(params, grads, states, hyper):
    """One pass over contiguous vectors, in parallel where the kernel is compiled so."""
    status = memory_status(params, grads, states)
    if status != OK:
        return status
    if not acceptable(hyper, LOW, BELOW):
        return HYPER
    scalars = constants(hyper, params.dtype.type, OPTIONS)
    if not all_finite(scalars):
        return HYPER
    for i in prange(params.size):
        element(params, grads, states, i, scalars)
    return OK


def strided(params, grads, states, hyper):
    """One pass over arrays of any strides, of one shape.  Shapes and overlap are the caller's to check."""
    if not acceptable(hyper, LOW, BELOW):
        return HYPER
    scalars = constants(hyper, params.dtype.type, OPTIONS)
    if not all_finite(scalars):
        return HYPER
    for i in np.ndindex(params.shape):
        element(params, grads, states, i, scalars)
    return OK


def strided_checked(params, grads, states, hyper):
    """`strided` for compiled callers, whose arrays nobody has checked."""
    status = strided_overlap(params, grads)
    for i in range(len(states)):
        if status == OK:
            status = strided_overlap(params, states[i])
        if status == OK:
            status = strided_overlap(grads, states[i])
        for j in range(i):
            if status == OK:
                status = strided_overlap(states[i], states[j])
    if status != OK:
        return status
    return strided(params, grads, states, hyper)


def pointers(params, grads, states, size, hyper, options):
    """One pass over `size` elements behind each pointer; `options` are int64, known only when it runs."""
    if size < 0 or size > LONGEST // ITEMSIZE:
        return LENGTH
    if size > 0:
        if address(params) == 0 or address(grads) == 0:
            return NULL
        for k in range(len(states)):
            if address(states[k]) == 0:
                return NULL
    if overlap_status(params, grads, states, size * ITEMSIZE) != OK:
        return OVERLAP
    for k in range(len(options)):
        if options[k] < 0 or options[k] >= COUNTS[k]:
            return HYPER
    if not acceptable(hyper, LOW, BELOW):
        return HYPER
    scalars = constants(hyper, T, options)
    if not all_finite(scalars):
        return HYPER
    if options == OPTIONS:  # the usual ones, compiled into a loop of their own
        for i in range(size):
            element(params, grads, states, i, scalars, OPTIONS)
    else:
        for i in range(size):
            element(params, grads, states, i, scalars, options)
    return OK


def pointer_element(params, grads, states, i, scalars, options):
    """The rule on element `i`, in place."""
    params[i], state = update(params[i], grads[i], gather(states, i), scalars, options)
    scatter(states, i, state)


def cuda_grid(params, grads, states, scalars):
    """A grid-stride pass over contiguous device vectors."""
    i = cuda.grid(1)  # noqa: F821  (bound by launch.py: importing numba.cuda costs 0.2 s)
    stride = cuda.gridsize(1)  # noqa: F821
    while i < params.size:
        params[i], state = update(params[i], grads[i], gather(states, i), scalars, OPTIONS)
        scatter(states, i, state)
        i += stride


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


@inlined
def memory_status(params, grads, states):
    """`OK` where contiguous arrays have one length and share no memory."""
    if grads.size != params.size:
        return LENGTH
    for k in range(len(states)):
        if states[k].size != params.size:
            return LENGTH
    return overlap_status(params, grads, states, params.size * params.itemsize)


@inlined
def overlap_status(params, grads, states, nbytes):
    """`OK` where contiguous arrays, or what pointers point at, of `nbytes` each share no memory."""
    p, g = address(params), address(grads)
    if abs(p - g) < nbytes:
        return OVERLAP
    for i in range(len(states)):
        s = address(states[i])
        if abs(p - s) < nbytes or abs(g - s) < nbytes:
            return OVERLAP
        for j in range(i):
            if abs(s - address(states[j])) < nbytes:
                return OVERLAP
    return OK


def _address(typingctx, x):
    """Where an array begins, or a pointer points; signed: differences of unsigned addresses wrap around."""

    def build(context, builder, signature, operands):
        (kind,), (value,) = signature.args, operands
        pointer = value if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, value).data
        return builder.ptrtoint(pointer, ir.IntType(64))

    return types.int64(x), build


def _address_python(x):
    return np.int64(x.ctypes.data)


address = python_callable(intrinsic(_address), _address_python)


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


def gather(arrays, i):
    """Element `i` of each array of a tuple, as a tuple."""
    return tuple(array[i] for array in arrays)


def scatter(arrays, i, values):
    """Write `values[k]` to element `i` of `arrays[k]`, for each `k`."""
    for array, value in zip(arrays, values, strict=True):
        array[i] = value


def unpacked(values, count):
    """The `count` elements of a vector, as a tuple."""
    return tuple(values[k] for k in range(count))


# Compiled code needs tuples of known length written out.
@overload(unpacked, inline="always", prefer_literal=True)
def _overload_unpacked(values, count):
    return {
        4: lambda values, count: (values[0], values[1], values[2], values[3]),
        6: lambda values, count: (values[0], values[1], values[2], values[3], values[4], values[5]),
        7: lambda values, count: (values[0], values[1], values[2], values[3], values[4], values[5], values[6]),
    }[count.literal_value]


@overload(gather, inline="always")
def _overload_gather(arrays, i):
    return {
        1: lambda arrays, i: (arrays[0][i],),
        2: lambda arrays, i: (arrays[0][i], arrays[1][i]),
        3: lambda arrays, i: (arrays[0][i], arrays[1][i], arrays[2][i]),
    }[len(arrays)]


@overload(scatter, inline="always")
def _overload_scatter(arrays, i, values):
    def one(arrays, i, values):
        arrays[0][i] = values[0]

    def two(arrays, i, values):
        arrays[0][i] = values[0]
        arrays[1][i] = values[1]

    def three(arrays, i, values):
        arrays[0][i] = values[0]
        arrays[1][i] = values[1]
        arrays[2][i] = values[2]

    return {1: one, 2: two, 3: three}[len(arrays)]
