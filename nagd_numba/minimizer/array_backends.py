"""Vectors that stay where they are: tensors of PyTorch and arrays of CuPy, on the CPU or a CUDA device.

The same loop runs in Python over their own operators; only the few sums of an iteration come to the host.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import validation
from . import prox
from .specialize import Functions, Loop, bound_in_python


def is_foreign(x: Any) -> bool:
    """Is `x` an array of a library whose operators can do what the loop does?"""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return True
    return validation.is_device_array(x) and type(x).__module__.partition(".")[0] == "cupy"


def starting_point(x0: Any) -> Any:
    """A copy of `x0`, outside any graph of PyTorch's."""
    x = duplicate(detached(x0))
    dtype = str(x.dtype).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        raise TypeError(f"x0 has dtype {dtype}; float32 or float64 is needed for arrays that stay where they are")
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(f"x0 has shape {tuple(x.shape)}; a vector of at least one element is needed: x0.ravel()")
    if not math.isfinite(float(abs(x).max())):
        raise ValueError("x0 is not finite everywhere; a start from finite numbers is needed")
    return x


def detached(x: Any) -> Any:
    return x.detach() if hasattr(x, "detach") else x


def duplicate(x: Any) -> Any:
    """A copy, for functions that may write to it."""
    return x.clone() if hasattr(x, "clone") else x.copy()


def vectors(x: Any, count: int) -> Any:
    """Room for so many vectors like `x`, in the rows of a matrix."""
    return (
        x.new_zeros((count, len(x))) if hasattr(x, "new_zeros") else sys.modules["cupy"].zeros((count, len(x)), x.dtype)
    )


def like(x: Any, values: np.ndarray) -> Any:
    """Numbers from the host as an array beside `x`."""
    if values.size == 0:
        return values
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return torch.as_tensor(values, dtype=x.dtype, device=x.device)
    return sys.modules["cupy"].asarray(values, dtype=x.dtype)


def copy(to, x):
    to[...] = x


def largest(x):
    return float(abs(x).max())


def length(x):
    return float((x * x).sum()) ** 0.5


def distance(x, y):
    return length(x - y)


def descend(z, y, g, step):
    z[...] = y - step * g


def compare(point, z, x, y, g):
    moved = z - point
    sums = (g * moved).sum(), (moved * moved).sum(), ((y - z) * (z - x)).sum(), abs(moved).max()
    slope, square, turn, most = map(float, sums)
    return slope, square, turn, most


def extrapolate(to, z, x, momentum):
    to[...] = z + momentum * (z - x)


def judge(z, y, ahead, g, ahead_g):
    turned, moved = ahead_g - g, ahead - y
    sums = ahead_g * (z - ahead), turned * (z - 0.5 * (y + ahead)), turned * moved, moved * moved
    beyond, bent, climb, far = (float(terms.sum()) for terms in sums)
    return beyond, bent, climb, far


def accept(x, z, y, ahead, g, ahead_g):
    for to, source in ((x, z), (y, ahead), (g, ahead_g)):
        to[...] = source


def difference(to, a, b):
    to[...] = a - b


def soft_threshold(z, step, first, second):
    shrunk = abs(z) - step * first
    z[...] = shrunk * (shrunk > 0) * ((z > 0) * 2 - 1)


def clip(z, step, first, second):
    for bound, outside in ((first, z < first), (second, z > second)):
        z[outside] = bound[outside]


def weighted_l1(x, first, second):
    return float((first * abs(x)).sum())


VECTORS = {
    f.__name__: f for f in (copy, largest, length, distance, descend, compare, extrapolate, judge, accept, difference)
}
PROX: dict[Callable, Callable] = {
    prox.soft_threshold: soft_threshold,
    prox.clip: clip,
    prox.weighted_l1: weighted_l1,
}


def made(functions: Functions) -> Loop:
    """The loop over such arrays."""
    return bound_in_python(functions, VECTORS, PROX)
