"""Proximal maps `prox(z, step) = argmin_u h(u) + |u - z|^2 / (2 step)`, in place, and the penalties `h`.

=========== ============================== =========================================
name        h(x)                           prox
=========== ============================== =========================================
None        0                              z
"l1"        sum_i w_i |x_i|                sign(z_i) max(|z_i| - step w_i, 0)
"box"       0 for a <= x <= b, else inf    min(max(z_i, a_i), b_i)
"nonneg"    0 for x >= 0, else inf         max(z_i, 0)
=========== ============================== =========================================

Source: N. Parikh, S. Boyd, Foundations and Trends in Optimization 1 (2014).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numba import types

from ..kernels.jit import cpu_kernel

# Bound for a user's own map.
own: Any = None
own_penalty: Any = None
take: Any = None

NAMES = ("l1", "box", "nonneg")

# `first` and `second` are vectors: the weights w and nothing, or the bounds a and b.


def nothing(z, step, first, second):
    pass


def soft_threshold(z, step, first, second):
    for i in range(z.size):
        shrunk = max(abs(z[i]) - step * first[i], 0.0)
        z[i] = shrunk if z[i] > 0 else -shrunk


def clip(z, step, first, second):
    for i in range(z.size):
        z[i] = min(max(z[i], first[i]), second[i])


def users(z, step, first, second):
    take(z, own(z, step))


def no_penalty(x, first, second):
    return 0.0


def weighted_l1(x, first, second):
    total = 0.0
    for i in range(x.size):
        total += first[i] * abs(x[i])
    return total


def users_penalty(x, first, second):
    return own_penalty(x)


_vector = types.float64[::1]
SIGNATURES: dict[Callable, Any] = {
    soft_threshold: types.void(_vector, types.float64, _vector, _vector),
    clip: types.void(_vector, types.float64, _vector, _vector),
    weighted_l1: types.float64(_vector, _vector, _vector),
}


@functools.cache
def kernels() -> dict[Callable, Callable]:
    """For loops that run in Python; kept on disk."""
    return {f: cpu_kernel(f, f"minimize_{f.__name__}", signature) for f, signature in SIGNATURES.items()}
