"""Launches of CUDA kernels from compiled host code: the driver is called at its address, with no Python in between.

A *record* is a launch as a row of 64-bit words: the context, the kernel, the grid, the block, bytes of dynamic shared
memory, how many arguments follow, and the arguments, a word each.  Nothing here writes to a record, so threads may
start the same one at once.

`entries` is the address of a table of the driver's functions, in the order of `FUNCTIONS`.  If the record's context is
not the current one, it is while the kernels are started.  The status is the driver's; 0 is success.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .elementwise import acceptable, all_finite, limits
from .jit import inlined, kernel
from .pointers import pointer_at, spill
from .rule import Rule
from .template import template

FUNCTIONS = ("cuLaunchKernel", "cuCtxGetCurrent", "cuCtxPushCurrent", "cuCtxPopCurrent", "cuStreamIsCapturing")
CONTEXT, FUNCTION, GRID, BLOCK, SHARED, COUNT, ARGUMENTS = 0, 1, 2, 5, 8, 9, 10  # the words of a record
MOST = 120  # arguments
HYPER = -1  # the status where hyper-parameters are out of range

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@intrinsic
def _call(typingctx, address, arguments):
    """The C function at an address, of 32-bit and 64-bit integers, which returns a 32-bit one."""

    def build(context, builder, signature, operands):
        values = cgutils.unpack_tuple(builder, operands[1])
        kind = ir.FunctionType(_I32, [value.type for value in values])
        status = builder.call(builder.inttoptr(operands[0], kind.as_pointer()), values)
        return builder.sext(status, _I64)

    return types.int64(types.int64, arguments), build


@intrinsic
def _slots(typingctx):
    """The address of room for MOST pointers, which lives as long as the caller runs."""

    def build(context, builder, signature, operands):
        return builder.ptrtoint(cgutils.alloca_once(builder, ir.ArrayType(_I64, MOST)), _I64)

    return types.int64(), build


@inlined
def _enter(entries, context):
    """Make a context the current one: the status, and whether another one was current."""
    functions, before = pointer_at(entries, np.int64), spill((np.int64(0),))
    status = _call(functions[1], (before,))
    if status != 0 or pointer_at(before, np.int64)[0] == context:
        return status, False
    status = _call(functions[2], (context,))
    return status, status == 0


@inlined
def _leave(entries):
    _call(pointer_at(entries, np.int64)[3], (spill((np.int64(0),)),))


@inlined
def _start(entries, record, stream, slots):
    """Start a record's kernel, whose arguments are where the slots point."""
    words = pointer_at(record, np.int64)
    shape = (
        np.int32(words[GRID]),
        np.int32(words[GRID + 1]),
        np.int32(words[GRID + 2]),
        np.int32(words[BLOCK]),
        np.int32(words[BLOCK + 1]),
        np.int32(words[BLOCK + 2]),
        np.int32(words[SHARED]),
    )
    launch = pointer_at(entries, np.int64)[0]
    return _call(launch, (words[FUNCTION], *shape, stream, slots, np.int64(0)))


@inlined
def _point(slots, record):
    """Let the slots point at the arguments of a record; returns their number."""
    pointers, count = pointer_at(slots, np.int64), pointer_at(record, np.int64)[COUNT]
    for k in range(count):
        pointers[k] = record + 8 * (ARGUMENTS + k)
    return count


@template
def start_records():
    def start_records(entries, table, rows, width, stream):
        """Start the kernels of a table's rows, of `width` words each, one after the other."""
        status, entered = _enter(entries, pointer_at(table, np.int64)[CONTEXT])
        slots = _slots()
        for row in range(rows):
            if status == 0:
                record = table + 8 * width * row
                _point(slots, record)
                status = _start(entries, record, stream, slots)
        if entered:
            _leave(entries)
        return status

    return start_records


@template
def start_rule(constants, OPTIONS, LOW, BELOW, T, ITEMSIZE, COUNT_OF_CONSTANTS):
    def start_rule(entries, record, stream, hyper):
        """Start a kernel whose last arguments, not in the record, are the constants of a rule."""
        if not acceptable(hyper, LOW, BELOW):
            return HYPER
        scalars = constants(hyper, T, OPTIONS)
        if not all_finite(scalars):
            return HYPER
        status, entered = _enter(entries, pointer_at(record, np.int64)[CONTEXT])
        if status == 0:
            slots, place = _slots(), spill(scalars)
            count, pointers = _point(slots, record), pointer_at(slots, np.int64)
            for k in range(COUNT_OF_CONSTANTS):
                pointers[count + k] = place + k * ITEMSIZE
            status = _start(entries, record, stream, slots)
            if entered:
                _leave(entries)
        return status

    return start_rule


@template
def capture_state():
    def capture_state(entries, context, stream):
        """Whether a stream of a context is under capture (0 is not), or the driver's status, negative."""
        status, entered = _enter(entries, context)
        state = spill((np.int32(0),))
        if status == 0:
            status = _call(pointer_at(entries, np.int64)[4], (stream, state))
        if entered:
            _leave(entries)
        return -status if status != 0 else np.int64(pointer_at(state, np.int32)[0])

    return capture_state


@template
def call_function():
    def call_function(function, a, b, c, d):
        """Call a function of at most four arguments of 64 bits; by the C calling conventions it ignores the others."""
        return _call(function, (a, b, c, d))

    return call_function


@functools.cache
def call_kernel() -> Any:
    """`call(function, a, b, c, d) -> status`, while which other threads run."""
    return without_dispatch(kernel(call_function.bind(), types.int64(*[types.int64] * 5)))


@functools.cache
def capture_kernel() -> Any:
    """`state(entries, context, stream)`."""
    return kernel(capture_state.bind(), types.int64(*[types.int64] * 3))


@functools.cache
def records_kernel() -> Any:
    """`start(entries, table, rows, width, stream) -> status`."""
    return kernel(start_records.bind(), types.int64(*[types.int64] * 5))


@functools.cache
def rule_kernel(rule: Rule, options: tuple[Any, ...], dtype: np.dtype) -> Any:
    """`start(entries, record, stream, hyper) -> status` for the kernels of a rule, whose constants are of a dtype."""
    bound = start_rule.bind(
        constants=rule.constants,
        OPTIONS=options,
        T=dtype.type,
        ITEMSIZE=8 if rule.exact else dtype.itemsize,
        COUNT_OF_CONSTANTS=rule.constant_count,
        **limits(rule),
    )
    hyper = types.UniTuple(types.float64, len(rule.hyper))
    return kernel(bound, types.int64(types.int64, types.int64, types.int64, hyper))


def without_dispatch(kernel: Any) -> Any:
    """A kernel as what Numba calls once it has looked at the types of the arguments, which takes 0.2 us."""
    (made,) = kernel.overloads.values()
    return made.entry_point
