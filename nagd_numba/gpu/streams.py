"""Everybody's streams: those of Numba, CuPy, PyTorch and cuda.core, graphs that are being captured, raw handles."""

from __future__ import annotations

import functools
import sys
from typing import Any

from . import driver


def stream_of(stream: Any, array: Any, device: int) -> Any:
    """What `Driver.launch` takes for `stream`; None is the current stream of the library that `array` is from."""
    if stream is None:
        return _kept(current_handle(array, device))
    if hasattr(stream, "begin_building") or hasattr(stream, "end_building"):  # cuda.core: a graph takes the launch
        return stream
    if hasattr(stream, "__cuda_stream__"):
        return _kept(int(stream.__cuda_stream__()[1]))
    for attribute in ("cuda_stream", "ptr", "handle"):  # PyTorch, CuPy, Numba
        if hasattr(stream, attribute):
            return _kept(_number(getattr(stream, attribute)))
    if isinstance(stream, int) and not isinstance(stream, bool) and stream >= 0:
        return _kept(stream)
    raise TypeError(
        f"stream is {stream!r}; a stream of numba, CuPy, PyTorch or cuda.core, a raw handle (int), or None is needed"
    )


def moves(array: Any) -> bool:
    """Can the current stream of the array's library change?"""
    return type(array).__module__.partition(".")[0] in ("torch", "cupy") or _is_tensor(array)


def _is_tensor(array: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def current_handle(array: Any, device: int) -> int:
    """The stream on which work of the array's library goes now: 0 is the default stream."""
    library = type(array).__module__.partition(".")[0]
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and _is_tensor(array):
        raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)  # what compiled PyTorch asks: 0.1 us
        return int(raw(device) if raw is not None else torch.cuda.current_stream(device).cuda_stream)
    if cupy is not None and library == "cupy":
        return int(cupy.cuda.get_current_stream().ptr)
    return 0


def _number(handle: Any) -> int:
    value = getattr(handle, "value", handle)  # Numba's is of ctypes
    return int(value or 0)


@functools.lru_cache(256)
def _kept(handle: int) -> Any:
    return driver.current().stream(handle)
