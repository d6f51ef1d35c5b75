"""The only calls of the CUDA driver: which devices there are, load, launch, allocate, copy.

Everything else in this folder works with whatever stands in `current()`: `use` puts another object of this interface
in its place, as the tests do to run kernels on machines without a GPU.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np

from . import target
from .compiler import Kernel, entry

_loading = threading.Lock()


class Driver:
    """CUDA through `cuda.core` and `cuda.bindings`, with primary contexts, as Numba, CuPy and PyTorch use them."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[Kernel, int, int], Any] = {}

    @functools.cache  # noqa: B019  (one driver lives as long as the process)
    def why_not(self) -> str | None:
        """Why no kernel can run here, or None."""
        return target.why_unavailable()

    @functools.cache  # noqa: B019
    def _device(self, device: int) -> Any:
        from cuda.core import Device

        return Device(device)

    @functools.cache  # noqa: B019
    def capability(self, device: int) -> tuple[int, int]:
        """The compute capability."""
        major, minor = self._device(device).compute_capability
        return int(major), int(minor)

    @functools.cache  # noqa: B019
    def multiprocessors(self, device: int) -> int:
        return int(self._device(device).properties.multiprocessor_count)

    @functools.cache  # noqa: B019
    def shared_limit(self, device: int) -> int:
        """Bytes of shared memory that a block can have."""
        return int(self._device(device).properties.max_shared_memory_per_block_optin)

    def device_of(self, pointer: int) -> int:
        """The device that memory belongs to; raises for memory of none."""
        from cuda.bindings import driver

        attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        status, device = driver.cuPointerGetAttribute(attribute, pointer)
        if status != driver.CUresult.CUDA_SUCCESS:
            raise ValueError(f"0x{pointer:x} is not memory of a CUDA device ({status.name})")
        return int(device)

    def load(self, kernel: Kernel, device: int, shared: int = 0) -> Any:
        """The kernel, ready on a device, with so many bytes of dynamic shared memory allowed."""
        key = kernel, device, shared
        if key not in self._loaded:
            with _loading:
                self._loaded[key] = self._load(kernel, device, shared)
        return self._loaded[key]

    def _load(self, kernel: Kernel, device: int, shared: int) -> Any:
        from cuda.bindings import driver
        from cuda.core import ObjectCode

        self._enter(device)
        image = kernel.image(self.capability(device))
        loaded = ObjectCode.from_cubin(image).get_kernel(entry(image))
        if shared > 48 << 10:
            attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            (status,) = driver.cuKernelSetAttribute(attribute, shared, int(loaded.handle), device)
            if status != driver.CUresult.CUDA_SUCCESS:
                raise RuntimeError(f"{kernel.name} needs {shared} bytes of shared memory in a block ({status.name})")
        return loaded

    def configuration(self, grid: int | tuple[int, ...], block: int | tuple[int, ...], shared: int = 0) -> Any:
        """What `launch` needs to know of a grid, to be kept and used again."""
        from cuda.core import LaunchConfig

        return LaunchConfig(grid=grid, block=block, shmem_size=shared)

    def stream(self, handle: int) -> Any:
        """What `launch` needs to know of a stream."""
        from cuda.core import LEGACY_DEFAULT_STREAM, Stream

        return Stream.from_handle(handle) if handle else LEGACY_DEFAULT_STREAM

    def launch(self, loaded: Any, device: int, stream: Any, configuration: Any, *arguments: Any) -> None:
        """Start a kernel; addresses are ints, the rest NumPy scalars."""
        from cuda.core import launch

        self._enter(device)
        try:
            launch(stream, configuration, loaded, *arguments)
        except Exception as error:  # cuda.core's exceptions have no common public type
            raise RuntimeError(f"a CUDA kernel could not be launched: {error}") from error

    def _enter(self, device: int) -> None:
        from cuda.bindings import driver

        status, current = driver.cuCtxGetDevice()
        if status != driver.CUresult.CUDA_SUCCESS or int(current) != device:
            self._device(device).set_current()

    def empty(self, shape: int | tuple[int, ...], dtype: Any, device: int) -> Any:
        """A new device array of Numba's."""
        from .target import cuda

        with cuda.gpus[device]:
            try:
                return cuda.device_array(shape, dtype)
            except Exception as error:
                size = int(np.prod(shape)) * np.dtype(dtype).itemsize
                raise MemoryError(f"device {device} has no {size} bytes of memory left ({error})") from error

    def upload(self, x: np.ndarray, device: int) -> Any:
        """A copy on a device."""
        from .target import cuda

        with cuda.gpus[device]:
            return cuda.to_device(np.ascontiguousarray(x))

    def rewrite(self, array: Any, x: np.ndarray, stream: Any) -> None:
        """Copy host memory to an array of `empty` or `upload`, in the order of the stream."""
        from cuda.bindings import driver

        handle = int(stream.handle)
        pointer = array.__cuda_array_interface__["data"][0]
        (status,) = driver.cuMemcpyHtoDAsync(pointer, x.ctypes.data, x.nbytes, handle)
        if status != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"{x.nbytes} bytes could not be copied to the device ({status.name})")

    def synchronize(self, device: int, stream: Any) -> None:
        """Wait for everything on a stream; raises if a kernel failed."""
        from cuda.bindings import driver

        self._enter(device)
        (status,) = driver.cuStreamSynchronize(int(stream.handle))
        if status != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"a CUDA kernel failed ({status.name})")

    def download(self, array: Any) -> np.ndarray:
        """A copy of any device array on the host, made when everything before has been done."""
        from cuda.bindings import driver

        interface = array.__cuda_array_interface__
        made = np.empty(interface["shape"], np.dtype(interface["typestr"]))
        if made.size:
            pointer = interface["data"][0]
            self._enter(self.device_of(pointer))
            (status,) = driver.cuCtxSynchronize()
            if status == driver.CUresult.CUDA_SUCCESS:
                (status,) = driver.cuMemcpyDtoH(made.ctypes.data, pointer, made.nbytes)
            if status != driver.CUresult.CUDA_SUCCESS:
                raise RuntimeError(f"{made.nbytes} bytes could not be copied from the device ({status.name})")
        return made


_current: Any = Driver()


def current() -> Any:
    """The driver; raises `RuntimeError` saying what was looked for where no device can be used."""
    reason = _current.why_not()
    if reason is not None:
        raise RuntimeError(reason)
    return _current


def use(driver: Any) -> Any:
    """Put another driver in the place of the one that is returned."""
    global _current
    before, _current = _current, driver
    return before


def why_no_cuda() -> str | None:
    """Why CUDA kernels cannot run here, or None where they can."""
    return _current.why_not()
