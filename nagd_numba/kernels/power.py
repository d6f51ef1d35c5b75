"""Whole powers in float64: one form for every target, and the rounded result.

C libraries, and CUDA's, have powers that differ in the last bit.  Here it is repeated squaring in numbers of two
float64, `high + low`: each product errs by a few 2^-106, and the result by `t` times that, so that it is the rounded
power but for one in 2^40 at `t` = 1000.  (Below 2^-900 it may be off by more.)
"""

from __future__ import annotations

import numpy as np

from .jit import inlined, layer
from .rounding import add, fma, mul


@inlined
def product(high, low, other, rest):
    """`(high + low) (other + rest)` as such a number."""
    first = mul(high, other)
    error = fma(high, rest, fma(low, other, fma(high, other, -first)))
    total = add(first, error)
    return total, add(error, -add(total, -first))


@inlined
def whole_power(x, t):
    """`x^t` for `0 <= x <= 1` and a whole float64 `t` from 0 to below 2^53."""
    return long_power(x, 0.0, t)[0]


@layer
def long_power(x, rest, t):
    """`(x + rest)^t` as such a number."""
    high, low, square = 1.0, 0.0, x
    n = np.int64(t)
    while n > 0:
        if n & 1:
            high, low = product(high, low, square, rest)
        n >>= 1
        if n > 0:
            square, rest = product(square, rest, square, rest)
    return high, low
