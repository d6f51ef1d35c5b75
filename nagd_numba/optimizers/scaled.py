"""Lengths and factors that leave the range of float64: numbers `m 2^e`, as pairs `(m, e)`.

These are slow and for rare cases.  Products with powers of two are exact, so results do not depend on the powers.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

Number = tuple[float, int]

_CHUNK = 1 << 16


@functools.cache
def limits(dtype: np.dtype | str) -> tuple[float, float]:
    """The smallest normal and the largest number of a type."""
    kind = np.finfo(dtype)
    return float(kind.tiny), float(kind.max)


def ordinary(x: float, dtype: np.dtype) -> bool:
    """Is `x` among the normal numbers of a type, in size?"""
    smallest, largest = limits(dtype)
    return smallest <= abs(x) <= largest


def quotient(a: Number, b: Number) -> Number:
    """`a / b`, with `1/2 <= m < 1`; `b` is not 0."""
    (over, e), (under, k) = math.frexp(a[0]), math.frexp(b[0])
    m, more = math.frexp(over / under)
    return m, e - k + more + a[1] - b[1]


def value(x: Number) -> float:
    """As a float; infinite where it is too large for one."""
    try:
        return math.ldexp(*x)
    except OverflowError:
        return math.copysign(math.inf, x[0])


def times(x: np.ndarray, factor: Number) -> np.ndarray:
    """`x factor` as a new array of the type of `x`; the factor is a `quotient`."""
    m, e = factor
    with np.errstate(all="ignore"):
        if e > 0:  # the order that neither overflows nor loses bits where the product does not
            made = np.ldexp(x, e - 1) * x.dtype.type(2 * m)
        else:
            made = np.ldexp(x * x.dtype.type(m), e)
    return np.asarray(made)


def dot(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray]) -> Number | None:
    """The sum of the products of finite arrays, rounded once; None where one is not finite."""
    exponents = [_exponent(arrays) for arrays in (xs, ys)]
    if None in exponents:
        return None
    up, right = (int(e or 0) for e in exponents)

    def products() -> Iterator[list[float]]:
        for x, y in zip(xs, ys, strict=True):
            for first in range(0, x.size, _CHUNK):
                a, b = (z[first : first + _CHUNK].astype(np.float64) for z in (x, y))
                with np.errstate(all="ignore"):
                    yield (np.ldexp(a, -up) * np.ldexp(b, -right)).tolist()

    return math.fsum(itertools.chain.from_iterable(products())), up + right


def _exponent(arrays: Sequence[np.ndarray]) -> int | None:
    """That of the largest element in size; None where one is not finite."""
    largest = [float(abs(x).max(initial=0)) for x in arrays]
    return math.frexp(max(largest))[1] if all(map(math.isfinite, largest)) else None
