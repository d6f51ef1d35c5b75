"""What the driver does on a stream while the host goes on: copies from and to page-locked memory, events.

These calls are made many times in an epoch of a training, so that they go to the driver's functions at their addresses:
`cuda.bindings` takes several times as long for each.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from ..kernels import cuda_launch
from .errors import driver_error

_CALLS = (  # the driver's functions that are called here
    "cuCtxPushCurrent",
    "cuCtxPopCurrent",
    "cuMemcpyHtoDAsync",
    "cuMemcpyDtoHAsync",
    "cuMemcpyDtoDAsync",
    "cuEventRecord",
    "cuEventSynchronize",
)

_popped = ctypes.c_uint64()  # where the driver writes which context it was, which nobody reads
_POPPED = ctypes.addressof(_popped)


class Event:
    """A place in a stream that can be waited for."""

    def __init__(self, device: int, handle: int) -> None:
        self.device, self.handle = device, handle


class Inside:
    """A block in which a context is the current one of the thread; one object does for all of them."""

    __slots__ = ("_call", "_context", "_doing")

    def __init__(self, call: Callable[..., None], context: int, doing: str) -> None:
        self._call, self._context, self._doing = call, context, doing

    def __enter__(self) -> None:
        self._call("cuCtxPushCurrent", self._context, doing=self._doing)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._call("cuCtxPopCurrent", _POPPED, doing=self._doing)


class Queue:
    """The part of `driver.Driver` that the host does not wait for, and the waiting.

    Whoever begins a copy keeps both sides of it as they are until an event behind it has been waited for.  `put`,
    `fetch`, `copy`, `mark` and `wait` are called in a block of `inside`.
    """

    @functools.cache  # noqa: B019  (one driver lives as long as the process)
    def inside(self, device: int) -> Inside:
        """A device's context is the current one in this block."""
        return Inside(self._call, self._context(device), f"Using CUDA device {device}")

    def _context(self, device: int) -> int:
        raise NotImplementedError

    def _done(self, call: str, *arguments: Any, doing: str) -> Any:
        raise NotImplementedError

    def _address_of(self, call: str) -> int:
        raise NotImplementedError

    @functools.cached_property
    def _functions(self) -> dict[str, Callable[..., int]]:
        kernel = cuda_launch.call_kernel()
        return {name: functools.partial(kernel, self._address_of(name)) for name in _CALLS}

    def _call(self, name: str, a: int, b: int = 0, c: int = 0, d: int = 0, *, doing: str) -> None:
        """Call a function of `_CALLS`; other threads run meanwhile."""
        status = self._functions[name](a, b, c, d)
        if status:
            raise driver_error(name, status, doing)

    def pinned(self, shape: int | tuple[int, ...], dtype: Any, device: int) -> np.ndarray:
        """Page-locked host memory."""
        from cuda.bindings import driver

        kind, count = np.dtype(dtype), int(np.prod(shape))
        size = max(1, count * kind.itemsize)
        with self.inside(device):
            address = int(self._done("cuMemHostAlloc", size, 0, doing=f"Allocating {size} bytes of page-locked memory"))
        memory = (ctypes.c_char * size).from_address(address)
        weakref.finalize(memory, driver.cuMemFreeHost, address)
        return np.frombuffer(memory, kind, count).reshape(shape)

    def put(self, to: int, source: int, size: int, stream: int) -> None:
        """Begin to copy so many bytes of page-locked memory to a device; the places are addresses."""
        self._call("cuMemcpyHtoDAsync", to, source, size, stream, doing="Copying to a device")

    def fetch(self, to: int, source: int, size: int, stream: int) -> None:
        """Begin to copy from a device to page-locked memory."""
        self._call("cuMemcpyDtoHAsync", to, source, size, stream, doing="Copying from a device")

    def copy(self, to: int, source: int, size: int, stream: int) -> None:
        """Begin to copy on a device."""
        self._call("cuMemcpyDtoDAsync", to, source, size, stream, doing="Copying on a device")

    def event(self, device: int) -> Event:
        """What `mark` and `wait` take."""
        from cuda.bindings import driver

        flags = driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
        with self.inside(device):
            event = Event(device, int(self._done("cuEventCreate", flags, doing="Making an event")))
        weakref.finalize(event, driver.cuEventDestroy, event.handle)
        return event

    def mark(self, event: Event, stream: int) -> None:
        """The event is where the stream is now."""
        self._call("cuEventRecord", event.handle, stream, doing="Marking a place in a stream")

    def wait(self, event: Event) -> None:
        """Wait for what was on the stream before the event; raises if a kernel failed."""
        self._call("cuEventSynchronize", event.handle, doing="Running what a stream was given")
