"""The host arrays of a `ShardedStep`: what they must be, and their memory as vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import validation


def vector(name: str, x: Any, write: bool) -> np.ndarray:
    """The memory of a contiguous array as a vector; raises for anything else."""
    return _contiguous(name, x, write).reshape(-1)


def gradient(x: Any, params: np.ndarray, rows: int | None, sums: int | None = None) -> np.ndarray:
    """A gradient as a vector, or with `rows` as that many, or `sums`; raises unless it fits the parameters."""
    host = _contiguous("grads", x, write=False)
    if host.dtype != params.dtype:
        raise TypeError(
            f"grads has dtype {host.dtype} and params {params.dtype}; one dtype is needed for both: "
            f"grads.astype(np.{params.dtype})"
        )
    if rows is None and host.size != params.size:
        raise ValueError(f"grads has {host.size} elements and params {params.size}; as many are needed")
    if rows is not None and host.shape not in ((rows, params.size), (sums, params.size)):
        raise ValueError(
            f"grads has shape {host.shape}; a row for each micro-batch of this rank is needed: {(rows, params.size)}"
        )
    if np.may_share_memory(host, params):  # exact for contiguous arrays
        raise ValueError("grads and params overlap in memory; each needs its own: pass grads.copy()")
    return host.reshape(-1) if rows is None else host


def _contiguous(name: str, x: Any, write: bool) -> np.ndarray:
    if isinstance(x, list | tuple):
        raise TypeError(f"{name} is a list of {len(x)}; one array is needed: nagd_numba.FlatParams lays many on one")
    host = validation.host_array(name, x, write=write)
    if not host.flags.c_contiguous:
        raise ValueError(f"{name} is not contiguous; a contiguous array is needed: np.ascontiguousarray({name})")
    return host
