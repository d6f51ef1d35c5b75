"""How a loss scale follows the gradients: the rule of PyTorch's `GradScaler`, for a guard on the host and on a device.

It is as large as the gradients allow: half precision then keeps most of the small ones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .jit import inlined
from .rounding import mul


class Growth(NamedTuple):
    """The factors of a scale, and after how many steps it grows; 0 for one that does not change."""

    factor: float
    backoff: float
    interval: int


@inlined
def next_scale(scale, steps, bad, factor, backoff, interval, T):
    """The scale after a step, a number of type `T` in float64, and the steps since it changed last, `steps` before.

    It stays as it is where it would become 0 or infinite in that type.
    """
    if not bad and steps + 1 < interval:
        return scale, steps + 1
    changed = np.float64(T(mul(scale, backoff if bad else factor)))
    return changed if changed > 0.0 and changed < math.inf else scale, 0
