"""Many linear steps at once: products of 2x2 matrices, kept for blocks of 1, 2, 4, ... steps.

A step without a gradient takes the parameter and the velocity `(p, v)` to

    (A p + B v, C p + D v)

A matrix is the tuple `(A, B, C, D, a, b, c, d)` of float64: each entry is the sum of a high and a low part, as in
`power`, and errs by some 2^-104.  Rows of a table, 8 float64 each, hold the products of

    capacity 0    equal steps, in row 64 i + k of them k 64^i
    capacity N    a power of two: steps that differ.  Row `j` is step `start + j + 1`; behind these N come the products
                  of pairs, of pairs of pairs, and so on, and in the last row, 2N - 1, how many steps are recorded, and
                  `start`.  So any stretch of n steps is at most 2 log2(n) products, of which none was divided by
                  another: nothing cancels or underflows that would not in the steps themselves.

For float32 arrays the high parts are enough, in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .jit import inlined
from .pointers import load_tuple
from .power import product
from .rounding import add, fma, mul
from .template import template

ENTRIES, HIGH = 8, 4
BASE = 64  # of the numbers of equal steps
RECORDED, START = 0, 1  # places in the last row of a table


@inlined
def total(high, low, other, rest):
    """`(high + low) + (other + rest)` as such a number."""
    s = add(high, other)
    back = add(s, -high)
    error = add(add(high, -add(s, -back)), add(other, -back))
    t = add(low, rest)
    back = add(t, -low)
    small = add(add(low, -add(t, -back)), add(rest, -back))
    error = add(error, t)
    first = add(s, error)
    error = add(add(error, -add(first, -s)), small)
    s = add(first, error)
    return s, add(error, -add(s, -first))


@inlined
def of_products(a, al, x, xl, b, bl, y, yl):
    """`a x + b y` of such numbers."""
    first, low = product(a, al, x, xl)
    second, rest = product(b, bl, y, yl)
    return total(first, low, second, rest)


@inlined
def composed(later, earlier):
    """The product of two matrices."""
    A, B, C, D, a, b, c, d = later
    E, F, G, H, e, f, g, h = earlier
    if C == 0.0 and G == 0.0:  # no weight decay: all entries of one row have one sign, and nothing cancels
        P, p = product(A, a, E, e)
        Q, q = of_products(A, a, F, f, B, b, H, h)
        S, s = product(D, d, H, h)
        return P, Q, 0.0, S, p, q, 0.0, s
    P, p = of_products(A, a, E, e, B, b, G, g)
    Q, q = of_products(A, a, F, f, B, b, H, h)
    R, r = of_products(C, c, E, e, D, d, G, g)
    S, s = of_products(C, c, F, f, D, d, H, h)
    return P, Q, R, S, p, q, r, s


@inlined
def composed_high(later, earlier):
    """The product of the high parts, in float64."""
    A, B, C, D = later
    E, F, G, H = earlier
    if C == 0.0 and G == 0.0:
        return mul(A, E), fma(A, F, mul(B, H)), 0.0, mul(D, H)
    return (
        fma(A, E, mul(B, G)),
        fma(A, F, mul(B, H)),
        fma(C, E, mul(D, G)),
        fma(C, F, mul(D, H)),
    )


@template
def stretch(fetch, compose, IDENTITY):
    """The product of the steps behind number `first` up to number `last`, of which there is at least one."""

    def stretch(table, capacity, first, last):
        early, late, level = IDENTITY, IDENTITY, 0
        if capacity == 0:
            n = last - first
            made = fetch(table, n % BASE)
            n //= BASE
            while n > 0:
                level += BASE
                made = compose(fetch(table, level + n % BASE), made)
                n //= BASE
            return made
        while first < last:
            base = block(capacity, level)
            if first & 1:
                early = compose(fetch(table, base + first), early)
                first += 1
            if last & 1:
                last -= 1
                late = compose(late, fetch(table, base + last))
            first >>= 1
            last >>= 1
            level += 1
        return compose(late, early)

    return stretch


@inlined
def block(capacity, level):
    """The row of a table where the products of `2^level` steps begin."""
    return 2 * capacity - ((2 * capacity) >> level)


@inlined
def moved(p, v, matrix):
    """`(p, v)` after the steps of a matrix, each rounded once."""
    A, B, C, D, a, b, c, d = matrix
    P, p_low = product(A, a, p, 0.0)
    if B != 0.0:
        change, rest = product(B, b, v, 0.0)
        P, p_low = total(P, p_low, change, rest)
    V, v_low = 0.0, 0.0
    if D != 0.0:
        V, v_low = product(D, d, v, 0.0)
    if C != 0.0:
        change, rest = product(C, c, p, 0.0)
        V, v_low = total(V, v_low, change, rest)
    if not (math.isfinite(P) and math.isfinite(V)):  # the parts of such numbers are no numbers
        return moved_high(p, v, (A, B, C, D))
    return P, V


@inlined
def moved_high(p, v, matrix):
    """The same in float64, rounded to the type of `p`.  What has no share in a step, finite or not, changes nothing."""
    T = type(p)
    A, B, C, D = matrix
    x, y = np.float64(p), np.float64(v)
    change = mul(B, y) if B != 0.0 else 0.0
    kept = mul(D, y) if D != 0.0 else 0.0
    return T(fma(A, x, change)), T(fma(C, x, kept) if C != 0.0 else kept)


@inlined
def whole_of(table, row):
    """A row of a table, behind a pointer."""
    return load_tuple(table, row * ENTRIES, ENTRIES)


@inlined
def high_of(table, row):
    """The high parts of one."""
    return load_tuple(table, row * ENTRIES, HIGH)


class Arithmetic:
    """How arrays of float64 (`exact`) or float32 make up for steps: `stretch`, and `moved` by what that returns."""

    def __init__(self, exact: bool, compile_: Any, fetch: Any) -> None:
        compose = compile_(composed if exact else composed_high)
        identity = (1.0, 0.0, 0.0, 1.0, *([0.0] * 4 if exact else []))
        self.stretch = compile_(stretch.bind(fetch=fetch, compose=compose, IDENTITY=identity))
        self.moved = compile_(moved if exact else moved_high)
