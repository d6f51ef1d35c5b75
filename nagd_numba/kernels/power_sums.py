"""Sums of weights that are powers of whole numbers, in a time that does not depend on how many there are.

    w_j = j^r min(j/W, 1)^q          j = 1, 2, ...;    W = 0: j^r
    relative_sum(t, W, r, q) = (w_1 + ... + w_t) / w_t

It is made of `S(n, m) = (1/n)^m + (2/n)^m + ... + (n/n)^m`:

    t <= W        S(t, r + q)
    t > W         S(t, r) - (W/t)^r (S(W, r) - S(W, r + q))

`S(n, 0)` is `n`, and `S(n, 2) = E(n, 2)`.  Else up to `TERMS` numbers are added one by one; beyond them it is the
Euler-Maclaurin formula, whose constant is found from the first `TERMS`:

    E(n, m) = n/(m+1) + 1/2 + m/(12 n) - m(m-1)(m-2)/(720 n^3) + m...(m-4)/(30240 n^5) - m...(m-6)/(1209600 n^7)
    S(n, m) = E(n, m) + (TERMS/n)^m (S(TERMS, m) - E(TERMS, m))

What is left out is `m...(m-8)/(47900160 n^9)`, for `m < 16` at most 5e-15 for `n > TERMS`.  Powers are `exp(m log x)`,
within `m |log x| + 4` units in the last place.  There is one place for each function that is called: all of it is
compiled into every kernel.
"""

from __future__ import annotations

from .jit import inlined, layer
from .mathfuncs import exp, log
from .rounding import add, div, fma, mul

TERMS = 64.0


@layer
def relative_sum(t, W, r, q):
    """`(w_1 + ... + w_t) / w_t` in float64, for whole float64 `t >= 1` and `W >= 0`, `r` and `q` from 0 to below 8."""
    within = t <= W
    last = 1 if within or W == 0.0 or q == 0.0 else 3
    total, share, k = 0.0, 1.0, 0
    while k < last:
        n = t if k == 0 else W
        m = add(r, q) if within or k == 2 else r
        first = 1.0
        if k == 1:
            x = div(W, t)
            share = mul(x, x) if m == 2.0 else 1.0
            first = 0.0  # where (W/t)^r is made
        if m == 0.0:
            part = n
        elif m == 2.0:
            part = _euler(n, m)
        else:
            count = n if n < TERMS else TERMS
            part, scale, j = 0.0, 0.0, first
            while j <= count + 1.0:
                x = div(j, count) if j <= count else div(TERMS, n)
                x = div(W, t) if j == 0.0 else x
                power = exp(mul(m, log(x)))
                if j == 0.0:
                    share = power
                elif j <= count:
                    part = add(part, power)
                else:
                    scale = power
                j += 1.0
            if n > TERMS:
                part = add(_euler(n, m), mul(scale, add(part, -_euler(TERMS, m))))
        total = add(total, part if k == 0 else -mul(share, part) if k == 1 else mul(share, part))
        k += 1
    return total


@inlined
def _euler(n, m):
    """`E(n, m)`."""
    third = mul(mul(m, m - 1.0), m - 2.0)
    fifth = mul(mul(third, m - 3.0), m - 4.0)
    seventh = mul(mul(fifth, m - 5.0), m - 6.0)
    part = div(1.0, n)
    square = mul(part, part)
    tail = fma(square, mul(seventh, -1.0 / 1209600.0), mul(fifth, 1.0 / 30240.0))
    tail = fma(square, tail, mul(third, -1.0 / 720.0))
    tail = fma(square, tail, mul(m, 1.0 / 12.0))
    return add(div(n, m + 1.0), fma(part, tail, 0.5))
