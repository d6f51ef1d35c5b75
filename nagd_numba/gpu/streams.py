"""Everybody's streams: those of Numba, CuPy, PyTorch and cuda.core, graphs that are being captured, raw handles.

Here a stream is its handle, an int; 0 is the default stream.
"""

from __future__ import annotations

import sys
from typing import Any

from ..validation import is_tensor

JAX = ("jax", "jaxlib")  # whose arrays have no stream: they are waited for when they are first met


class Sources:
    """Where the values of some arrays are made.

    default  all belong to the default stream of a library that has one, which is not named in their interfaces
    alone    all belong to the stream that is the current one of the first array's library
    named    there are interfaces that name a stream
    """

    def __init__(self, arrays: Any) -> None:
        there = [x for x in arrays if x is not None and library_of(x) not in JAX]
        self._tensors = any(map(is_tensor, there))
        self._cupy = any(library_of(x) == "cupy" for x in there)
        others = [x for x in there if not is_tensor(x) and library_of(x) != "cupy"]
        handles = [exported(x) for x in others]
        self._unnamed = None in handles
        self._fixed = {x for x in handles if x is not None}
        jax = len(there) < sum(x is not None for x in arrays)
        kinds = self._tensors + self._cupy + self._unnamed + len(self._fixed)
        self.alone = kinds == 1 and not jax
        self.default = self.alone and self._unnamed
        self.named = self._cupy or bool(self._fixed)

    def others(self, handle: int, given: bool, device: int) -> list[int]:
        """The streams beside `handle`; where that was asked for, only those that interfaces name."""
        found = set(self._fixed)
        if self._cupy:
            found.add(_current_of_cupy())
        if not given:
            found |= {_current_of_torch(device)} if self._tensors else set()
            found |= {0} if self._unnamed else set()
        return sorted(x for x in found if not same(x, handle))


def stream_of(stream: Any, array: Any, device: int) -> int:
    """The handle of what was given as a stream; None is the stream on which work of the array's library goes now."""
    if stream is None:
        return current_handle(array, device)
    if stream.__class__ is int and stream >= 0:
        return int(stream)
    if hasattr(stream, "begin_building") or hasattr(stream, "end_building"):  # cuda.core: a graph takes the launch
        stream = stream.stream
    if hasattr(stream, "__cuda_stream__"):
        return int(stream.__cuda_stream__()[1])
    for attribute in ("cuda_stream", "ptr", "handle"):  # PyTorch, CuPy, Numba
        if hasattr(stream, attribute):
            return _number(getattr(stream, attribute))
    raise TypeError(
        f"stream is {stream!r}; a stream of numba, CuPy, PyTorch or cuda.core, a raw handle (int), or None is needed"
    )


def current_handle(array: Any, device: int) -> int:
    """The stream on which work of the array's library goes now, or the one that the array belongs to."""
    if is_tensor(array):
        return _current_of_torch(device)
    library = library_of(array)
    if library == "cupy":
        return _current_of_cupy()
    return 0 if library in JAX else exported(array) or 0


def _current_of_torch(device: int) -> int:
    torch: Any = sys.modules["torch"]
    raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)  # what compiled PyTorch asks: 0.1 us
    return int(raw(device) if raw is not None else torch.cuda.current_stream(device).cuda_stream)


def _current_of_cupy() -> int:
    return int(sys.modules["cupy"].cuda.get_current_stream().ptr)


def exported(array: Any) -> int | None:
    """The stream on which, by an array's interface, its values are made; None where it names none."""
    if library_of(array) == "numba":
        return _number(array.stream) or None
    stream = array.__cuda_array_interface__.get("stream")
    return None if stream is None else int(stream)


def same(a: int, b: int) -> bool:
    """Are two handles the same stream?  (1 is another name of the default stream.)"""
    return a == b or {a, b} == {0, 1}


def library_of(array: Any) -> str:
    """The top package of an array's type."""
    return type(array).__module__.partition(".")[0]


def _number(handle: Any) -> int:
    if handle is None:
        return 0
    handle = getattr(handle, "handle", handle)  # Numba's stream
    value = getattr(handle, "value", handle)  # of ctypes
    return int(value or 0)
