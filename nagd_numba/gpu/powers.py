"""`optimizers.scaled` in compiled code: numbers `m 2^e` as pairs of float64, and products with them.

    quotient      of two such numbers, with 1/2 <= m < 1
    value         as one float64, infinite where it is too large
    ldexp_steps   a power of two as three factors; the products with them round once, as `ldexp` does
    scale_steps   the seven factors that are `scaled.times`

All for numbers >= 0, and bit for bit what the functions of `scaled` make.
"""

from __future__ import annotations

import numpy as np

from ..kernels.jit import inlined
from ..kernels.mathfuncs import exponent, half_power, mantissa
from ..kernels.rounding import add, div, mul

_MAGIC = 1.5 * 2.0**52
_RAISE = 64.0


@inlined
def power_of_two(n):
    """`2^n` in float64, for a whole float64 from -1022 to 1023."""
    return half_power(add(_MAGIC, 2.0 * n), 0.0)


@inlined
def decompose(x):
    """`frexp` of a finite float64 >= 0, the exponent as a float64."""
    small = x < 2.0**-1022
    raised = mul(x, 2.0**64) if small else x
    m, e = mantissa(raised), exponent(raised)
    if m >= 1.0:
        m, e = 0.5 * m, e + 1.0
    if small:
        e -= _RAISE
    return (m, e) if x > 0.0 else (0.0, 0.0)


@inlined
def quotient(a, a_power, b, b_power):
    """`a 2^a_power / (b 2^b_power)`."""
    over, e = decompose(a)
    under, k = decompose(b)
    m, more = decompose(div(over, under))
    return m, e - k + more + a_power - b_power


@inlined
def ldexp_steps(n, most, least, lower):
    """Three factors whose product is `2^n`; `most` and `least` are the largest exponents of a type, `lower` one more.

    On the way down no product but the last is subnormal unless the end is 0.
    """
    first = second = 0.0
    if n > most:
        first, n = most, n - most
        if n > most:
            second, n = most, n - most
            n = min(n, most)
    elif n < least:
        first, n = lower, n - lower
        if n < least:
            second, n = lower, n - lower
            n = max(n, least)
    return power_of_two(first), power_of_two(second), power_of_two(n)


@inlined
def value(m, e):
    """`m 2^e`."""
    first, second, third = ldexp_steps(e, 1023.0, -1022.0, -969.0)
    return mul(mul(mul(m, first), second), third)


@inlined
def scale_steps(m, e, most, least, lower):
    """The factors of `m 2^e`, one after the other, for a type with these exponents."""
    if e > 0.0:
        first, second, third = ldexp_steps(e - 1.0, most, least, lower)
        return first, second, third, 2.0 * m, 1.0, 1.0, 1.0
    first, second, third = ldexp_steps(e, most, least, lower)
    return 1.0, 1.0, 1.0, m, first, second, third


def exponents(dtype: str) -> tuple[float, float, float]:
    """What `ldexp_steps` needs of a type: its largest and its smallest exponent, and that many digits above it."""
    kind = np.finfo(dtype)
    return float(kind.maxexp - 1), float(kind.minexp), float(kind.minexp + kind.nmant + 1)
