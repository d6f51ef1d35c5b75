"""What a failed call of the CUDA driver is told as: which call, its status in words, and the way out."""

from __future__ import annotations

from typing import Any

OUT_OF_MEMORY, INVALID_CONTEXT, NO_BINARY, INVALID_HANDLE, TOO_MANY_RESOURCES = 2, 201, 209, 400, 701
BROKEN = (700, 702, 709, 710, 714, 715, 716, 717, 718, 719)  # a kernel failed, and its context with it
CAPTURE = range(900, 911)

_WAYS_OUT = {
    OUT_OF_MEMORY: "free device memory, or use smaller arrays or batches",
    INVALID_CONTEXT: "another library has destroyed the device's primary context: start a new process",
    NO_BINARY: "the compiled kernels are for another architecture: nagd-numba info --clear-cache",
    INVALID_HANDLE: "the stream was destroyed, or belongs to another device than the arrays",
    TOO_MANY_RESOURCES: "the device has too few registers or too little shared memory: please report this",
    **dict.fromkeys(BROKEN, "a kernel that was started earlier failed, and CUDA needs a new process after that"),
    **dict.fromkeys(CAPTURE, "while a stream is captured only steps can run whose kernels are loaded: make one before"),
}


def driver_error(call: str, status: Any, doing: str) -> Exception:
    """The exception for a status of a call of the driver, made while `doing` something."""
    number = int(status)
    words = f"{doing} failed: {call} returned {_described(number)}"
    out = _WAYS_OUT.get(number)
    message = f"{words}; {out}" if out else words
    return MemoryError(message) if number == OUT_OF_MEMORY else RuntimeError(message)


def _described(status: int) -> str:
    """The name of a status, and what the driver says of it."""
    from cuda.bindings import driver

    try:
        known = driver.CUresult(status)
    except ValueError:
        return f"status {status}, which is newer than the installed cuda-bindings"
    found, text = driver.cuGetErrorString(known)
    said = f" ({text.decode()})" if int(found) == 0 and text else ""
    return f"{known.name}{said}"
