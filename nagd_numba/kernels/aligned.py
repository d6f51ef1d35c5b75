"""Arrays that begin at a line of the cache: vectors of their elements then never lie across two lines."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

LINE = 64  # bytes of a line of the cache


def aligned(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros that begin at a line of the cache."""
    kind = np.dtype(dtype)
    size = math.prod(np.atleast_1d(shape).tolist()) * kind.itemsize
    block = np.zeros(size + LINE, np.uint8)
    start = -block.ctypes.data % LINE
    return block[start : start + size].view(kind).reshape(shape)
