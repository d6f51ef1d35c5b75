"""Clipping the norm of a gradient, where a number that it needs leaves the range of the gradient's type.

The gradient times `clip / norm` is what is wanted.  Where that factor is below the smallest normal number (and 0 where
the sum of squares overflowed), the gradient is multiplied by a power of two, DOWN, then by the reciprocal of the norm
that it has now, then by `clip`: no product leaves the range, and none rounds by more.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..optimizers.scaled import limits
from ..validation import number, shown

DOWN = {"float32": 2.0**-64, "float64": 2.0**-600}


def limit(clip: Any, dtype: np.dtype) -> float:
    """The largest norm, from the argument `clip`; raises for what no gradient can be clipped to."""
    if clip is None:
        return math.inf
    value = number("clip", clip, low_open=True, finite=False)
    least = max(limits(dtype)[0], math.sqrt(limits("float64")[0]))  # squares below the latter's underflow
    if value < least:
        raise ValueError(f"clip is {shown(clip)}; a number >= {least:.2g} is needed (in {dtype})")
    return value
