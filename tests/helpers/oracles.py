"""Exact arithmetic to compare with: every operation in rationals, rounded once, by another algorithm than ours."""

import math
from fractions import Fraction

import numpy as np

_FORMATS = {np.dtype(np.float32): (24, -126, 127), np.dtype(np.float64): (53, -1022, 1023)}


def round_to(x: Fraction, dtype) -> float:
    """The floating number of `dtype` nearest to the rational `x`, ties to even; overflow gives infinity."""
    bits, low, high = _FORMATS[np.dtype(dtype)]
    if x == 0:
        return 0.0
    exponent = math.floor(math.log2(abs(x.numerator)) - math.log2(x.denominator))
    while abs(x) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while abs(x) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, low) - bits + 1)
    nearest = round(x / unit) * unit  # Python rounds ties to even
    if abs(nearest) >= Fraction(2) ** (high + 1):
        return math.inf if nearest > 0 else -math.inf
    return float(nearest)


def fma(a, b, c, dtype):
    return round_to(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)), dtype)
