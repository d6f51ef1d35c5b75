"""Where a run of the command line trains: `--device`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..gpu import driver
from ..gpu.driver import why_no_cuda
from ..kernels.jit import SIMULATOR


def resolve_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` is CUDA where there is a GPU.  Raises `ValueError` with the reason where there is not."""
    if device == "auto":
        return "cpu" if SIMULATOR or why_no_cuda() is not None else "cuda"
    if device == "cuda":
        reason = why_no_cuda()
        if reason is not None:
            raise ValueError(f"--device cuda: {reason}")
    return device


def check_tf32(device: str) -> None:
    """Raise unless it has tensor cores."""
    if device != "cuda":
        raise ValueError("--precision tf32: products on tensor cores need --device cuda, and there is no GPU here")
    from ..mlp.gpu import tf32

    try:
        tf32.check("tf32", 0)
    except ValueError as error:
        raise ValueError(f"--precision tf32: {error}") from error


def placing(device: str) -> Callable[[np.ndarray], Any]:
    """What puts an array there: a copy on the first GPU, or for "cpu" the array itself."""
    if device == "cpu":
        return np.ascontiguousarray
    there = driver.current()
    return lambda x: there.upload(x, 0)


def to_host(x: Any) -> np.ndarray:
    """A copy in host memory."""
    return x.copy() if isinstance(x, np.ndarray) else driver.current().download(x)
