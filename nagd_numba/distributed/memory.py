"""Vectors in host memory or on a device: the few things that are done to both."""

from __future__ import annotations

from typing import Any

import numpy as np


def zeros_like(x: Any) -> Any:
    """Zeros, where `x` is."""
    return np.zeros_like(x) if isinstance(x, np.ndarray) else _to_device(np.zeros(x.size, x.dtype))


def copied(x: Any) -> Any:
    """A copy, where `x` is."""
    return x.copy() if isinstance(x, np.ndarray) else _to_device(to_host(x))


def to_host(x: Any) -> np.ndarray:
    """In host memory: a host array itself, of a device array a copy."""
    return x if isinstance(x, np.ndarray) else np.asarray(x.copy_to_host())


def put(x: Any, values: np.ndarray) -> None:
    """Write host values into a vector."""
    if isinstance(x, np.ndarray):
        x[...] = values
    elif x.size:
        x.copy_to_device(np.ascontiguousarray(values))


def _to_device(x: np.ndarray) -> Any:
    from ..gpu.target import cuda

    return cuda.to_device(x)
