"""What the driver does in the order of a stream while the host goes on: copies, events, tables of launches."""

from __future__ import annotations

import ctypes
import functools
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import launch_loop

if TYPE_CHECKING:
    from .launch_table import LaunchTable


class Queue:
    """The part of `driver.Driver` that only queues work."""

    def _enter(self, device: int) -> None:
        raise NotImplementedError

    def pinned(self, shape: int | tuple[int, ...], dtype: Any, device: int) -> np.ndarray:
        """Page-locked host memory, from and to which copies need not wait for each other."""
        from cuda.bindings import driver

        kind = np.dtype(dtype)
        count = int(np.prod(shape))
        size = max(1, count * kind.itemsize)
        self._enter(device)
        status, address = driver.cuMemHostAlloc(size, 0)
        if status != driver.CUresult.CUDA_SUCCESS:
            raise MemoryError(f"the host has no {size} bytes of page-locked memory left ({status.name})")
        memory = (ctypes.c_char * size).from_address(int(address))
        weakref.finalize(memory, driver.cuMemFreeHost, int(address))
        return np.frombuffer(memory, kind, count).reshape(shape)

    def fetch(self, out: np.ndarray, array: Any, stream: Any) -> None:
        """Begin to copy an array of `empty` to page-locked memory."""
        from cuda.bindings import driver

        pointer = array.__cuda_array_interface__["data"][0]
        (status,) = driver.cuMemcpyDtoHAsync(out.ctypes.data, pointer, out.nbytes, int(stream.handle))
        _checked(status, f"{out.nbytes} bytes could not be copied from the device")

    def copy(self, to: int, source: int, size: int, device: int, stream: Any) -> None:
        """Begin to copy so many bytes from one address of a device to another."""
        from cuda.bindings import driver

        self._enter(device)
        (status,) = driver.cuMemcpyDtoDAsync(to, source, size, int(stream.handle))
        _checked(status, f"{size} bytes could not be copied on the device")

    def event(self, device: int) -> Any:
        """What `record` and `wait` take."""
        from cuda.bindings import driver

        self._enter(device)
        status, made = driver.cuEventCreate(int(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING))
        _checked(status, "no event could be made")
        event = _Event(device, made)
        weakref.finalize(event, driver.cuEventDestroy, made)
        return event

    def record(self, event: Any, stream: Any) -> None:
        """Everything so far on the stream belongs to the event."""
        from cuda.bindings import driver

        (status,) = driver.cuEventRecord(event.handle, int(stream.handle))
        _checked(status, "an event could not be recorded")

    def wait(self, event: Any) -> None:
        """Wait for what belongs to the event; raises if a kernel failed."""
        from cuda.bindings import driver

        self._enter(event.device)
        (status,) = driver.cuEventSynchronize(event.handle)
        _checked(status, "a CUDA kernel failed")

    def function(self, loaded: Any) -> int:
        """The handle of a kernel, for tables of launches."""
        return int(loaded.handle)

    def start_table(self, table: LaunchTable, first: int, last: int, device: int, stream: Any) -> None:
        """Start what the steps `first` to `last` of a table have."""
        self._enter(device)
        launches = table.launches.reshape(-1, launch_loop.COLUMNS)
        places = np.empty(launch_loop.MOST_ARGUMENTS, np.int64)
        start, stop = first * table.positions, last * table.positions
        status, where = launch_loop.launch_loop()(_launch_address(), launches, start, stop, int(stream.handle), places)
        if status != 0:
            from cuda.bindings import driver

            step, position = divmod(where, table.positions)
            name = driver.CUresult(status).name
            raise RuntimeError(f"a CUDA kernel could not be launched: launch {position} of step {step} ({name})")


class _Event:
    def __init__(self, device: int, handle: Any) -> None:
        self.device, self.handle = device, handle


@functools.cache
def _launch_address() -> int:
    """Where the driver has `cuLaunchKernel`."""
    from cuda.bindings import driver

    status, address, _ = driver.cuGetProcAddress(b"cuLaunchKernel", 12000, 0)
    _checked(status, "the driver has no cuLaunchKernel")
    return int(address)


def _checked(status: Any, problem: str) -> None:
    if int(status) != 0:
        raise RuntimeError(f"{problem} ({status.name})")
