"""Sums of rows, in their order: what a rank makes of the pieces that it was sent."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from .jit import kernel
from .template import template

CHUNK = 2048  # elements: of several rows so many are added up before the next, while the sum is in the first cache


@template
def sum_in_order():
    """`out = (row 0 + row 1 + ...) / divisor`, one addition after another; row `own` is `mine`, not that of `rows`."""

    def sum_in_order(rows, mine, own, out, divisor):
        T = out.dtype.type
        by = T(divisor)
        for first in range(0, out.size, CHUNK):
            last = min(out.size, first + CHUNK)
            for k in range(rows.shape[0]):
                if k == own:
                    row = mine[first:last]
                else:
                    row = rows[k, first:last]
                total = out[first:last]
                if k == 0:
                    for i in range(total.size):
                        total[i] = row[i]
                else:
                    for i in range(total.size):
                        total[i] += row[i]
            if by != T(1):
                for i in range(first, last):
                    out[i] /= by

    return sum_in_order


@functools.cache
def sum_kernel(dtype: np.dtype) -> Any:
    """`sum_in_order(rows, mine, own, out, divisor)`: a matrix, a vector that may be read-only, a row, a vector."""
    kind = from_dtype(dtype)
    rows = types.Array(kind, 2, "C", readonly=True)
    mine = types.Array(kind, 1, "C", readonly=True)
    return kernel(sum_in_order.bind(), types.void(rows, mine, types.int64, kind[::1], types.float64))
