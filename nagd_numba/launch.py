"""CUDA: from foreign device arrays to a launch on the right device and stream.

`numba.cuda` is imported here at the first use of a device array, never before.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import arrays, loops
from .compile import SIMULATOR, cuda_kernel
from .rules import Rule

THREADS = 32 if SIMULATOR else 256  # the simulator starts a Python thread for each
BLOCKS_PER_MULTIPROCESSOR = 16


@dataclass(frozen=True)
class DeviceMemory:
    """What `__cuda_array_interface__` says of an array."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: np.dtype
    read_only: bool
    owner: Any

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        if self.strides is None or self.size == 0:
            return True
        expected = self.dtype.itemsize
        for stride, length in zip(reversed(self.strides), reversed(self.shape), strict=True):
            if length > 1 and stride != expected:
                return False
            expected *= length
        return True


def apply_on_device(
    rule: Rule, named: Sequence[tuple[str, Any]], hyper: dict[str, Any], options: tuple[Any, ...], stream: Any
) -> None:
    """Check device arrays, then launch the rule's kernel on them."""
    memory = [(name, describe(name, x, write=name != "grads")) for name, x in named]
    arrays.same_kind(memory)
    _no_overlap(memory)
    first = memory[0][1]
    scalars = rule.scalars(arrays.hyper_parameters(hyper, first.dtype), first.dtype, options)
    if first.size == 0:
        return
    cuda = require_cuda()
    device = one_device(memory)
    with cuda.gpus[device]:
        handle = stream_of(stream)
        params, grads, *states = [flat_vector(x) for _, x in memory]
        kernel = device_kernel(rule, options, first.dtype)
        kernel[_blocks(first.size, device), THREADS, handle](params, grads, tuple(states), scalars)


def describe(name: str, x: Any, write: bool, dtypes: Sequence[np.dtype] | None = arrays.DTYPES) -> DeviceMemory:
    """Read an array's description; raises for what the kernels cannot use.  `dtypes=None` takes any dtype."""
    if SIMULATOR:
        host = x._ary
        memory = DeviceMemory(host.ctypes.data, host.shape, host.strides, host.dtype, not host.flags.writeable, x)
    else:
        detached = arrays.plain_tensor(name, x)  # PyTorch refuses the interface while a gradient is required
        interface = detached.__cuda_array_interface__
        if interface.get("mask") is not None:
            raise TypeError(f"{name} has a mask, which has no meaning here; fill it first")
        pointer, read_only = interface["data"]
        memory = DeviceMemory(
            pointer or 0,
            tuple(interface["shape"]),
            interface.get("strides"),
            np.dtype(interface["typestr"]),
            read_only,
            detached,
        )
    if dtypes is not None and memory.dtype not in dtypes:
        raise TypeError(f"{name} has dtype {memory.dtype}; float32 or float64 is needed on a CUDA device")
    if write and memory.read_only:
        raise ValueError(f"{name} is read-only and would be updated in place; pass a copy")
    if not memory.contiguous:
        raise ValueError(
            f"{name} is strided (shape {memory.shape}, strides {memory.strides}); CUDA kernels need C-contiguous "
            f"arrays: make it contiguous"
        )
    return memory


def require_cuda() -> Any:
    """`numba.cuda` with a usable device; raises `RuntimeError` saying what was looked for."""
    reason = why_no_cuda()
    if reason is not None:
        raise RuntimeError(reason)
    from numba import cuda

    return cuda


@functools.cache
def why_no_cuda() -> str | None:
    """Why CUDA kernels cannot run here, or None where they can."""
    try:
        from numba import cuda
    except ImportError as error:
        return f"CUDA is not available: numba.cuda cannot be imported ({error}); install the extra 'cuda'"
    if SIMULATOR:
        return None
    try:
        if cuda.is_available() and len(cuda.gpus) > 0:
            return None
        problem = cuda.cuda_error()
    except Exception as error:  # the driver reports its troubles in many types
        problem = error
    detail = " ".join(str(problem).split()) if problem is not None else "the driver lists no device"
    return f"CUDA is not available: looked for the NVIDIA driver (libcuda) and a device; {detail}"


def stream_of(stream: Any) -> Any:
    """A stream of numba, CuPy, PyTorch, `cuda.core` or a raw handle, as numba's; None is the default stream."""
    from numba import cuda

    if stream is None or SIMULATOR:
        return 0
    if hasattr(stream, "__cuda_stream__"):
        return cuda.external_stream(int(stream.__cuda_stream__()[1]))
    for attribute in ("cuda_stream", "ptr"):  # PyTorch, CuPy
        if hasattr(stream, attribute):
            return cuda.external_stream(int(getattr(stream, attribute)))
    if isinstance(stream, int):
        return cuda.external_stream(stream)
    if hasattr(stream, "handle"):  # numba
        return stream
    raise TypeError(
        f"stream is {stream!r}; a stream of numba, CuPy, PyTorch or cuda.core, a raw handle (int), or None is needed"
    )


@functools.cache
def device_kernel(rule: Rule, options: tuple[Any, ...], dtype: np.dtype) -> Any:
    """The CUDA kernel of a rule, `kernel(params, grads, states, constants)`, compiled at its first launch."""
    from numba import cuda

    bound = loops.bindings(rule, options)
    name = f"{rule.kernel_name(options)}_{dtype}"
    return cuda_kernel(loops.cuda_grid, name, source=rule.update, cuda=cuda, **bound)


@functools.cache
def _max_blocks(device: int) -> int:
    from numba import cuda

    return cuda.gpus[device].MULTIPROCESSOR_COUNT * BLOCKS_PER_MULTIPROCESSOR


def _blocks(n: int, device: int) -> int:
    if SIMULATOR:
        return min(2, -(-n // THREADS))
    return min(-(-n // THREADS), _max_blocks(device))


def flat_vector(memory: DeviceMemory) -> Any:
    """An array's memory as a vector of numba's."""
    from numba import cuda

    if SIMULATOR:
        return memory.owner.reshape(memory.size)
    # A one-dimensional description without the owner's stream: numba would synchronise with that stream.
    return cuda.from_cuda_array_interface(
        {
            "shape": (memory.size,),
            "strides": None,
            "typestr": memory.dtype.str,
            "data": (memory.pointer, memory.read_only),
            "version": 3,
        },
        owner=memory.owner,
        sync=False,
    )


def _no_overlap(memory: Sequence[tuple[str, DeviceMemory]]) -> None:
    for (name, x), (other, y) in itertools.combinations(memory, 2):
        x_end, y_end = (m.pointer + m.size * m.dtype.itemsize for m in (x, y))
        if x.pointer < y_end and y.pointer < x_end:
            raise ValueError(f"{name} and {other} overlap in device memory; each needs its own: pass a copy of {other}")


def one_device(memory: Sequence[tuple[str, DeviceMemory]]) -> int:
    """The number of the device that holds all of the arrays; raises where they are on several."""
    if SIMULATOR:
        return 0
    devices = {name: _device_of(x.pointer) for name, x in memory}
    if len(set(devices.values())) > 1:
        where = ", ".join(f"{name} on device {device}" for name, device in devices.items())
        raise ValueError(f"the arrays are on different devices ({where}); copy them to one")
    return next(iter(devices.values()))


def _device_of(pointer: int) -> int:
    from cuda.bindings import driver

    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    status, device = driver.cuPointerGetAttribute(attribute, pointer)
    if status != driver.CUresult.CUDA_SUCCESS:
        raise ValueError(f"0x{pointer:x} is not memory of a CUDA device ({status.name})")
    return int(device)
