"""The messages of a step between device arrays: the engine's reduce_scatter and all_gather, of equal parts.

Engines sum in an order of their own, so bits are not promised here.  Everything is put on the default stream.
Tested in Numba's simulator; not on devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import validation
from .slices import Slices


def device_vector(name: str, x: Any, write: bool) -> Any:
    """A contiguous device array, as a vector of Numba's on the same memory."""
    from ..gpu.device_array import describe
    from ..gpu.target import cuda

    if not hasattr(x, "__cuda_ndarray__"):
        describe(name, x, write=write)
        x = cuda.as_cuda_array(validation.plain_tensor(name, x))
    if x.dtype not in validation.DTYPES:
        raise TypeError(f"{name} has dtype {x.dtype}; float32 or float64 is needed")
    return x.reshape(-1)


def device_gradient(x: Any, params: Any, *rows: int | None) -> Any:
    """The same of a gradient; raises unless it fits the parameters."""
    if not validation.is_device_array(x):
        raise ValueError("params live on a CUDA device and grads on the host; copy them there: cuda.to_device(grads)")
    grads = device_vector("grads", x, write=False)
    if grads.dtype != params.dtype or grads.size != params.size:
        raise ValueError(
            f"grads has {grads.size} elements of {grads.dtype} and params {params.size} of {params.dtype}; the same "
            f"is needed"
        )
    return grads


class DeviceExchange:
    """See `exchange.Exchange`; there is one bucket."""

    def __init__(self, comm: Any, slices: Slices, dtype: np.dtype) -> None:
        from ..gpu.target import cuda
        from .divide import divide

        self._divide: Any = divide
        self._comm, self.slices = comm, slices
        self._full = cuda.device_array(slices.size * slices.length, dtype)
        self._part = cuda.device_array(slices.length, dtype)

    def gradients(self, grads: Any, divisor: float, ready: Callable[[], bool], use: Callable[[int, Any], None]) -> bool:
        if not ready():
            return False
        n = self.slices.n
        if n > 0:
            full = grads
            if self._full.size > n:
                full = self._full
                full[:n].copy_to_device(grads)
            self._comm.reduce_scatter(full, self._part)
        start, stop = self.slices.of(self._comm.rank)
        if stop > start and divisor != 1.0:
            blocks = -(-(stop - start) // 256)
            self._divide[blocks, 256](self._part[: stop - start], self._part.dtype.type(divisor))
        use(0, self._part[: stop - start])
        return True

    def send_params(self, params: Any, bucket: int) -> list[Any]:
        self.all_params(params)
        return []

    def all_params(self, params: Any) -> None:
        n = self.slices.n
        start, stop = self.slices.of(self._comm.rank)
        if n > 0:
            if stop > start:
                self._part[: stop - start].copy_to_device(params[start:stop])
            self._comm.all_gather(self._part, self._full)
            params.copy_to_device(self._full[:n])
