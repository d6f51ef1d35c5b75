"""Sums of powers of the whole numbers, in a time that does not depend on how many there are.

    relative_sum(n, m) = (1/n)^m + (2/n)^m + ... + (n/n)^m          n >= 1 whole, 0 <= m < 16

For `m` of 0 and 2 it is a polynomial in `n` and `1/n`.  Up to `TERMS` numbers are added one by one; beyond them it is
the Euler-Maclaurin formula, whose constant is found from the first `TERMS`:

    E(n) = n/(m+1) + 1/2 + m/(12 n) - m(m-1)(m-2)/(720 n^3) + m...(m-4)/(30240 n^5) - m...(m-6)/(1209600 n^7)
    relative_sum(n, m) = E(n) + (TERMS/n)^m (relative_sum(TERMS, m) - E(TERMS))

What is left out is `m...(m-8)/(47900160 n^9)`, at most 5e-15 for `n > TERMS`; whole powers are the rounded ones, others
are `exp(m log x)`, within `m |log x| + 4` units of the last place.
"""

from __future__ import annotations

from .jit import inlined
from .mathfuncs import exp, log
from .power import whole_power
from .rounding import add, div, fma, mul

TERMS = 64.0


@inlined
def power_of_part(x, m):
    """`x^m` for `0 < x <= 1` and `m >= 0`, in float64."""
    if m == float(int(m)):
        return whole_power(x, m)
    return exp(mul(m, log(x)))


@inlined
def relative_sum(n, m):
    """`(1/n)^m + ... + (n/n)^m` in float64, for a whole float64 `n >= 1` and `0 <= m < 16`."""
    if m == 0.0:
        return n
    if m == 2.0:
        return _euler(n, m)
    count = n if n < TERMS else TERMS
    total, j = 0.0, 1.0
    while j <= count:
        total = add(total, power_of_part(div(j, count), m))
        j += 1.0
    if n > TERMS:
        total = add(_euler(n, m), mul(power_of_part(div(TERMS, n), m), add(total, -_euler(TERMS, m))))
    return total


@inlined
def _euler(n, m):
    """`E(n)`."""
    third = mul(mul(m, m - 1.0), m - 2.0)
    fifth = mul(mul(third, m - 3.0), m - 4.0)
    seventh = mul(mul(fifth, m - 5.0), m - 6.0)
    part = div(1.0, n)
    square = mul(part, part)
    tail = fma(square, div(-seventh, 1209600.0), div(fifth, 30240.0))
    tail = fma(square, tail, div(-third, 720.0))
    tail = fma(square, tail, div(m, 12.0))
    return add(div(n, m + 1.0), fma(part, tail, 0.5))
