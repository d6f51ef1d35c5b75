"""What the driver does on a stream while the host goes on: copies from and to page-locked memory, events."""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from typing import Any

import numpy as np


class Event:
    """A place in a stream that can be waited for."""

    def __init__(self, device: int, handle: int) -> None:
        self.device, self.handle = device, handle


class Queue:
    """The part of `driver.Driver` that the host does not wait for, and the waiting.

    Whoever begins a copy keeps both sides of it as they are until an event behind it has been waited for.  `put`,
    `fetch`, `copy`, `mark` and `wait` are called in a block of `inside`, which costs more than they do.
    """

    def inside(self, device: int) -> contextlib.AbstractContextManager[None]:
        """A device's context is the current one in this block."""
        return self._inside(device)

    def _inside(self, device: int) -> contextlib.AbstractContextManager[None]:
        raise NotImplementedError

    def _done(self, call: str, *arguments: Any, doing: str) -> Any:
        raise NotImplementedError

    def pinned(self, shape: int | tuple[int, ...], dtype: Any, device: int) -> np.ndarray:
        """Page-locked host memory."""
        from cuda.bindings import driver

        kind, count = np.dtype(dtype), int(np.prod(shape))
        size = max(1, count * kind.itemsize)
        with self._inside(device):
            address = int(self._done("cuMemHostAlloc", size, 0, doing=f"Allocating {size} bytes of page-locked memory"))
        memory = (ctypes.c_char * size).from_address(address)
        weakref.finalize(memory, driver.cuMemFreeHost, address)
        return np.frombuffer(memory, kind, count).reshape(shape)

    def put(self, pointer: int, x: np.ndarray, stream: int) -> None:
        """Begin to copy page-locked memory to an address."""
        self._done("cuMemcpyHtoDAsync", pointer, x.ctypes.data, x.nbytes, stream, doing="Copying to a device")

    def fetch(self, out: np.ndarray, pointer: int, stream: int) -> None:
        """Begin to copy what is at an address to page-locked memory."""
        self._done("cuMemcpyDtoHAsync", out.ctypes.data, pointer, out.nbytes, stream, doing="Copying from a device")

    def copy(self, to: int, source: int, size: int, stream: int) -> None:
        """Begin to copy so many bytes from one address of a device to another."""
        self._done("cuMemcpyDtoDAsync", to, source, size, stream, doing="Copying on a device")

    def event(self, device: int) -> Event:
        """What `mark` and `wait` take."""
        from cuda.bindings import driver

        flags = driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
        with self._inside(device):
            event = Event(device, int(self._done("cuEventCreate", flags, doing="Making an event")))
        weakref.finalize(event, driver.cuEventDestroy, event.handle)
        return event

    def mark(self, event: Event, stream: int) -> None:
        """The event is where the stream is now."""
        self._done("cuEventRecord", event.handle, stream, doing="Marking a place in a stream")

    def wait(self, event: Event) -> None:
        """Wait for what was on the stream before the event; raises if a kernel failed."""
        self._done("cuEventSynchronize", event.handle, doing="Running what a stream was given")
