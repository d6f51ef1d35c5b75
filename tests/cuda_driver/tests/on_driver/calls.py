"""The driver API through cuda.bindings, failures as exceptions."""

import contextlib
import ctypes

import numpy as np
import pytest
from cuda.bindings import driver as api

NON_BLOCKING = 1


def ok(result):
    """What a call returns; raises its error."""
    status, *values = result
    if status != api.CUresult.CUDA_SUCCESS:
        raise RuntimeError(status.name)
    return values[0] if len(values) == 1 else tuple(values)


@contextlib.contextmanager
def fails(error, machine=None, match=None):
    """A call that fails with this error, for the reason that the machine notes."""
    with pytest.raises(RuntimeError, match=f"^CUDA_ERROR_{error}$"):
        yield
    if match is not None:
        assert match in machine.errors[-1]


def enter(device=0):
    """Make the primary context of a device current."""
    ok(api.cuInit(0))
    context = ok(api.cuDevicePrimaryCtxRetain(device))
    ok(api.cuCtxSetCurrent(context))
    return context


def memory(content):
    """Device memory with a copy of an array, which has arrived."""
    content = np.ascontiguousarray(content)
    pointer = int(ok(api.cuMemAlloc(content.nbytes)))
    ok(api.cuMemcpyHtoD(pointer, content.ctypes.data, content.nbytes))
    ok(api.cuCtxSynchronize())
    return pointer


def pinned(count, dtype=np.float32):
    """Pinned memory of the host, as an array."""
    size = count * np.dtype(dtype).itemsize
    address = int(ok(api.cuMemAllocHost(size)))
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype)


def read(pointer, count, dtype=np.float32):
    """What lies in device memory, when everything has been done."""
    out = np.empty(count, dtype)
    ok(api.cuCtxSynchronize())
    ok(api.cuMemcpyDtoH(out.ctypes.data, pointer, out.nbytes))
    return out


def peek(pointer, count, dtype=np.float32):
    """What lies there now, as nobody can see it: the driver is not asked, and nothing runs."""
    return np.frombuffer((ctypes.c_char * (count * np.dtype(dtype).itemsize)).from_address(pointer), dtype).copy()
