"""Additions of rows of a matrix in a given order, as a program of steps: see `distributed.tree`.

A step has the slots of two operands and of the target.  The slots are the rows that are given, then some rows of a
scratch memory, then the rows of the result.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from .jit import inlined, kernel
from .pointers import pointer
from .rounding import add
from .template import template

AT_ONCE = 2048  # elements of a row that are worked on together: those of all slots are in the cache then
NOTHING = -1  # the second operand of a copy


@template
def sum_rows(LENGTH):
    """Do `steps` on all columns, some at a time; rows are contiguous, the matrices may be parts of wider ones."""

    def sum_rows(steps, rows, scratch, out):
        size = rows.shape[1]
        for first in range(0, size, LENGTH):
            length = min(LENGTH, size - first)
            for s in range(steps.shape[0]):
                to = slot(steps[s, 2], rows, scratch, out, first)
                a = slot(steps[s, 0], rows, scratch, out, first)
                if steps[s, 1] < 0:
                    for i in range(length):
                        to[i] = a[i]
                else:
                    b = slot(steps[s, 1], rows, scratch, out, first)
                    for i in range(length):
                        to[i] = add(a[i], b[i])

    return sum_rows


@inlined
def slot(number, rows, scratch, out, column):
    """Where the part of a slot from `column` on begins."""
    given, memory = rows.shape[0], scratch.shape[0]
    if number < given:
        return pointer(rows[number, column:])
    if number < given + memory:
        return pointer(scratch[number - given])
    return pointer(out[number - given - memory, column:])


@functools.cache
def tree_kernel(dtype: np.dtype) -> Any:
    """`sum_rows` for matrices of this dtype."""
    kind = from_dtype(dtype)
    read, write = types.Array(kind, 2, "A", readonly=True), types.Array(kind, 2, "A")
    return kernel(
        sum_rows.bind(LENGTH=AT_ONCE), types.void(types.Array(types.int64, 2, "C"), read, kind[:, ::1], write)
    )
