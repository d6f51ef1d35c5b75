"""Sums of rows, in their order: what a rank makes of the pieces that it was sent."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from .jit import kernel
from .rounding import add, div
from .template import template

CHUNK = 2048  # elements: of several rows so many are added up before the next, while the sum is in the first cache


@template
def sum_in_order():
    """`out = (row 0 + row 1 + ...) / divisor`, one addition after another; row `own` is `mine`, not that of `rows`."""

    def sum_in_order(rows, mine, own, out, divisor):
        by = out.dtype.type(divisor)
        count = rows.shape[0]
        for first in range(0, out.size, CHUNK):
            last = min(out.size, first + CHUNK)
            total = out[first:last]
            one = (mine if own == 0 else rows[0])[first:last]
            if count == 1:
                for i in range(total.size):
                    total[i] = div(one[i], by)
                continue
            # A sum in place has loops of its own: of arrays that may overlap LLVM makes no vectors.
            two = (mine if own == 1 else rows[1])[first:last]
            if count == 2:
                for i in range(total.size):
                    total[i] = div(add(one[i], two[i]), by)
                continue
            for i in range(total.size):
                total[i] = add(one[i], two[i])
            for k in range(2, count - 1):
                row = (mine if own == k else rows[k])[first:last]
                for i in range(total.size):
                    total[i] = add(total[i], row[i])
            row = (mine if own == count - 1 else rows[count - 1])[first:last]
            for i in range(total.size):
                total[i] = div(add(total[i], row[i]), by)

    return sum_in_order


@functools.cache
def sum_kernel(dtype: np.dtype) -> Any:
    """`sum_in_order(rows, mine, own, out, divisor)`: a matrix, a vector that may be read-only, a row, a vector."""
    kind = from_dtype(dtype)
    rows = types.Array(kind, 2, "C", readonly=True)
    mine = types.Array(kind, 1, "C", readonly=True)
    return kernel(sum_in_order.bind(), types.void(rows, mine, types.int64, kind[::1], types.float64))
