"""Are the numbers of a vector on a device finite?"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...gpu import driver
from ...gpu.compiler import Kernel
from ...gpu.device_array import DeviceMemory
from ...gpu.pointers import load, store
from ...kernels.template import template
from .passes import Starter
from .training_data import Buffers

THREADS = 256
EACH = 16  # elements of a thread, where there are enough multiprocessors


@functools.cache
def counts_kernel(dtype: str) -> Kernel:
    """`kernel(x, size, out)`: each thread's count of the elements that are not finite."""
    scalar = from_dtype(np.dtype(dtype))
    signature = (types.CPointer(scalar), types.int64, types.CPointer(types.int64))
    return Kernel(counts.bind(SCALAR=scalar), f"mlp_not_finite_{dtype}", signature, threads=THREADS)


@template
def counts(SCALAR):
    from ...gpu.target import cuda

    def counts(x, size, out):
        thread, found = np.int64(cuda.grid(1)), 0
        for i in range(thread, size, cuda.gridsize(1)):
            value = load(x, i)
            if value - value != SCALAR(0):
                found += 1
        store(out, thread, found)

    return counts


class FiniteCheck:
    """Looks at a vector on a device, in the order of a stream."""

    def __init__(self, x: DeviceMemory, device: int, stream: Any) -> None:
        self._x, self._device, self._stream = x, device, stream
        self._driver = here = driver.current()
        self._blocks = max(1, min(here.multiprocessors(device), -(-x.size // (THREADS * EACH))))
        self._buffers = Buffers(device, stream)
        self._out = self._buffers.empty("counts", (self._blocks * THREADS,), np.int64)
        self._start = Starter(device, stream)
        self._event = here.event(device)

    def __call__(self) -> bool:
        """Are all numbers finite?"""
        x = self._x
        self._start(counts_kernel(x.dtype), self._blocks, THREADS, x.pointer, np.int64(x.size), self._out)
        with self._driver.inside(self._device):
            found = self._buffers.fetch("counts")
            self._driver.mark(self._event, self._stream)
            self._driver.wait(self._event)
        return not found.any()
