"""The only calls of the CUDA driver: which devices there are, load, launch, allocate, copy.

Everything else in this folder works with whatever stands in `current()`: `use` puts another object of this interface
in its place, as the tests do to run kernels on machines without a GPU.  Streams are handles, ints.  Whatever is called
here leaves the thread's current context as it was.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..kernels import cuda_launch
from . import target
from .compiler import Kernel, entry
from .errors import driver_error
from .queue import Queue

_loading = threading.Lock()
_IMPLICIT = 906  # CUDA_ERROR_STREAM_CAPTURE_IMPLICIT
_SINCE = 12000  # the version of CUDA whose functions are asked for by name


class Driver(Queue):
    """CUDA through `cuda.bindings`, with primary contexts, as Numba, CuPy and PyTorch use them."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[int, int, int], int] = {}  # by the identity of the kernel, which forgets it
        self._gone: list[Any] = []  # machine code that is loaded and whose kernels are no more
        self._pending: deque[tuple[Any, Any]] = deque()  # events, and what must live until they have happened
        self._of_graphs: list[Any] = []  # what captured graphs may read at any time
        self._under_way: list[Any] = []  # what a stream may use, or may have used when somebody stopped waiting for it

    @functools.cache  # noqa: B019  (one driver lives as long as the process)
    def why_not(self) -> str | None:
        """Why no kernel can run here, or None."""
        try:
            from cuda.bindings import driver, nvvm
        except ImportError as error:
            return f"CUDA is not available: cuda.bindings cannot be imported ({error}); install the extra 'cuda'"
        looked = "CUDA is not available: looked for the NVIDIA driver (libcuda) and a device; "
        try:
            for call, returned in (
                ("cuInit", driver.cuInit(0)),
                ("cuDeviceGetCount", driver.cuDeviceGetCount()),
            ):
                status, *found = returned
                if status != driver.CUresult.CUDA_SUCCESS:
                    return f"{looked}{call} returned {status.name}"
        except Exception as error:  # no libcuda: the bindings' types of it differ between versions
            return looked + " ".join(str(error).split())
        if found[0] == 0:
            return f"{looked}the driver lists no device"
        try:
            nvvm.version()
        except Exception as error:  # likewise
            detail = " ".join(str(error).split())
            return (
                f"CUDA is not available: there is a driver with {found[0]} device(s), but libnvvm, which compiles "
                f"kernels, cannot be loaded ({detail}); install the extra 'cuda', or set CUDA_HOME to a CUDA toolkit"
            )
        return target.why_unavailable()

    @functools.cache  # noqa: B019
    def _context(self, device: int) -> int:
        """The primary context of a device, which is never released."""
        return int(self._done("cuDevicePrimaryCtxRetain", device, doing=f"Using CUDA device {device}"))

    @functools.cached_property
    def entries(self) -> int:
        """The table of functions that compiled launches call."""
        self._entries = np.array([self._address_of(name) for name in cuda_launch.FUNCTIONS], np.int64)
        return int(self._entries.ctypes.data)

    def _address_of(self, call: str) -> int:
        from cuda.bindings import driver

        legacy = driver.CUdriverProcAddress_flags.CU_GET_PROC_ADDRESS_LEGACY_STREAM
        return int(self._done("cuGetProcAddress", call.encode(), _SINCE, legacy, doing=f"Looking for {call}")[0])

    @functools.cache  # noqa: B019
    def _attribute(self, device: int, name: str) -> int:
        from cuda.bindings import driver

        attribute = getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._done("cuDeviceGetAttribute", attribute, device, doing=f"Using CUDA device {device}"))

    def capability(self, device: int) -> tuple[int, int]:
        """The compute capability."""
        major, minor = (self._attribute(device, f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
        return major, minor

    def multiprocessors(self, device: int) -> int:
        return self._attribute(device, "MULTIPROCESSOR_COUNT")

    def shared_limit(self, device: int) -> int:
        """Bytes of shared memory that a block can have."""
        return self._attribute(device, "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")

    def device_of(self, pointer: int) -> int:
        """The device that memory belongs to; raises for memory of none."""
        from cuda.bindings import driver

        attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        status, device = driver.cuPointerGetAttribute(attribute, pointer)
        if status != driver.CUresult.CUDA_SUCCESS:
            raise ValueError(f"0x{pointer:x} is not memory of a CUDA device ({status.name})")
        return int(device)

    def load(self, kernel: Kernel, device: int, shared: int = 0) -> int:
        """The handle of a kernel on a device, with so many bytes of dynamic shared memory allowed.

        It is unloaded some time after the kernel goes: who launches one that may go lets it live meanwhile (`keep`,
        `waiting`).
        """
        key = id(kernel), device, shared
        if key not in self._loaded:
            with _loading:
                if key not in self._loaded:
                    self._unload()
                    self._loaded[key] = self._load(kernel, device, shared)
        return self._loaded[key]

    def _load(self, kernel: Kernel, device: int, shared: int) -> int:
        from cuda.bindings import driver

        image, doing = kernel.image(self.capability(device)), f"Loading {kernel.name}"
        with self.inside(device):
            library = self._done("cuLibraryLoadData", image, [], [], 0, [], [], 0, doing=doing)
            try:
                handle = self._done("cuLibraryGetKernel", library, entry(image).encode(), doing=doing)
                if shared > 48 << 10:
                    attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                    doing = f"Asking for {shared} bytes of shared memory in a block of {kernel.name}"
                    self._done("cuKernelSetAttribute", attribute, shared, handle, device, doing=doing)
            except BaseException:
                self._gone.append((library, image))
                raise
        kernel.loaded()
        weakref.finalize(kernel, self._forget, (id(kernel), device, shared), (library, image)).atexit = False
        return int(handle)

    def _forget(self, key: tuple[int, int, int], loaded: Any) -> None:
        """A kernel goes, in whatever thread and place: its machine code is unloaded before the next is loaded."""
        self._loaded.pop(key, None)
        self._gone.append(loaded)

    def _unload(self) -> None:
        """Unload what is gone."""
        from cuda.bindings import driver

        for _ in range(len(self._gone)):
            loaded = self._gone.pop(0)
            (status,) = driver.cuLibraryUnload(loaded[0])
            if status != driver.CUresult.CUDA_SUCCESS:  # while another thread captures a graph, for example
                self._gone.append(loaded)

    @contextlib.contextmanager
    def waiting(self, x: Any) -> Iterator[None]:
        """Let an object live while this block starts what uses it, and waits for that; for ever if it is left early."""
        self._under_way.append(x)
        yield
        self._under_way.remove(x)

    def configuration(self, grid: int | tuple[int, ...], block: int | tuple[int, ...], shared: int = 0) -> Any:
        """The words of a record that tell grid, block and bytes of dynamic shared memory."""
        return (*_three(grid), *_three(block), shared)

    def record(self, loaded: int, device: int, configuration: Any, *arguments: Any) -> np.ndarray:
        """A launch as a vector for `start`: see `kernels.cuda_launch`.  Addresses are ints, the rest NumPy scalars."""
        return record(self._context(device), loaded, configuration, arguments)

    def start(self, stream: int, records: np.ndarray) -> None:
        """Start a record, or the rows of a contiguous table of records, one after the other."""
        width = records.shape[-1]
        status = cuda_launch.records_kernel()(self.entries, records.ctypes.data, records.size // width, width, stream)
        if status:
            raise self.launch_error(status)

    def launch(self, loaded: int, device: int, stream: int, configuration: Any, *arguments: Any) -> None:
        """Start a kernel once."""
        self.start(stream, self.record(loaded, device, configuration, *arguments))

    def launch_error(self, status: int) -> Exception:
        """The exception for what a compiled launch has returned."""
        return driver_error("cuLaunchKernel", status, "Starting a CUDA kernel")

    def _done(self, call: str, *arguments: Any, doing: str) -> Any:
        """What a call of the driver returns beside its status, which must be success."""
        from cuda.bindings import driver

        status, *values = getattr(driver, call)(*arguments)
        if status != driver.CUresult.CUDA_SUCCESS:
            raise driver_error(call, status, doing)
        return values[0] if len(values) == 1 else values

    def empty(self, shape: int | tuple[int, ...], dtype: Any, device: int, stream: int = 0) -> Any:
        """A new device array of Numba's, which belongs to a stream."""
        from .target import cuda

        with self.inside(device), cuda.gpus[device]:
            try:
                return cuda.device_array(shape, dtype, stream=cuda.external_stream(stream) if stream else 0)
            except Exception as error:  # Numba's own, whose type says nothing
                size = int(np.prod(shape)) * np.dtype(dtype).itemsize
                message = f"Allocating {size} bytes on device {device} failed: {error}"
                if "OUT_OF_MEMORY" in str(error):
                    raise MemoryError(f"{message}; free device memory, or use smaller arrays or batches") from error
                raise RuntimeError(message) from error

    def upload(self, x: np.ndarray, device: int, stream: int = 0) -> Any:
        """A copy on a device, made in the order of the stream, to which it belongs."""
        made = self.empty(x.shape, x.dtype, device, stream)
        self.rewrite(made, x, stream)
        return made

    def rewrite(self, array: Any, x: np.ndarray, stream: int) -> None:
        """Copy host memory to an array of `empty` or `upload`, in the order of the stream."""
        if x.size:
            pointer = array.__cuda_array_interface__["data"][0]
            self.send(pointer, np.ascontiguousarray(x), self.device_of(pointer), stream)

    def send(self, pointer: int, x: np.ndarray, device: int, stream: int) -> None:
        """Copy contiguous host memory to an address, in the order of the stream; `x` must not change before."""
        doing = f"Copying {x.nbytes} bytes to device {device}"
        with self.inside(device):
            self._done("cuMemcpyHtoDAsync", pointer, x.ctypes.data, x.nbytes, stream, doing=doing)
        self.keep(x, device, stream)

    def allocate(self, nbytes: int, device: int) -> int:
        """The address of new memory, to be given to `free`."""
        with self.inside(device):
            return int(self._done("cuMemAlloc", nbytes, doing=f"Allocating {nbytes} bytes on device {device}"))

    def free(self, pointer: int, device: int) -> None:
        """Give memory back; waits for the kernels that may use it."""
        with self.inside(device):
            self._done("cuMemFree", pointer, doing="Freeing device memory")

    @contextlib.contextmanager
    def copied_in_graph(self, x: np.ndarray, device: int, stream: int) -> Iterator[int]:
        """The address of a copy of `x` that the graph under capture makes in each replay, for launches in this block.

        The graph reads `x`, which therefore lives as long as the process.
        """
        doing = f"Capturing a copy of {x.nbytes} bytes"
        self._of_graphs.append(x)
        with self.inside(device):
            pointer = int(self._done("cuMemAllocAsync", x.nbytes, stream, doing=doing))
            self._done("cuMemcpyHtoDAsync", pointer, x.ctypes.data, x.nbytes, stream, doing=doing)
        try:
            yield pointer
        finally:
            with self.inside(device):
                self._done("cuMemFreeAsync", pointer, stream, doing=doing)

    def capturing(self, stream: int, device: int) -> bool:
        """Does a stream record a graph instead of running what it is given?"""
        state: int = cuda_launch.capture_kernel()(self.entries, self._context(device), stream)
        if state == -_IMPLICIT:  # the default stream, while another one does
            return False
        if state < 0:
            raise driver_error("cuStreamIsCapturing", -state, "Looking at a stream")
        return state != 0

    def keep(self, x: Any, device: int, stream: int) -> None:
        """Let an object live until everything on the stream has been done, and as long as a graph that captures it."""
        from cuda.bindings import driver

        doing = "Marking a place in a stream"
        if self.capturing(stream, device):
            self._of_graphs.append(x)
            return
        try:
            with self.inside(device):
                event = self._done("cuEventCreate", driver.CUevent_flags.CU_EVENT_DISABLE_TIMING, doing=doing)
                self._done("cuEventRecord", event, stream, doing=doing)
        except Exception:  # nobody will know when it is read no more
            self._of_graphs.append(x)
            raise
        self._pending.append((event, x))
        for _ in range(len(self._pending)):
            try:
                event, x = self._pending.popleft()
            except IndexError:  # another thread took it
                break
            (status,) = driver.cuEventQuery(event)
            if status == driver.CUresult.CUDA_ERROR_NOT_READY:
                self._pending.append((event, x))
            else:
                driver.cuEventDestroy(event)

    def order(self, before: int, after: int, device: int) -> None:
        """Let what is given to the stream `after` from now on wait for what is on the stream `before` now.

        A stream that is captured cannot wait for one that is not, nor the reverse: there the capture itself is in the
        order of the streams in which it was begun, and is replayed.
        """
        from cuda.bindings import driver

        if self.capturing(before, device) != self.capturing(after, device):
            return
        doing = "Letting one stream wait for another"
        with self.inside(device):
            event = self._done("cuEventCreate", driver.CUevent_flags.CU_EVENT_DISABLE_TIMING, doing=doing)
            try:
                self._done("cuEventRecord", event, before, doing=doing)
                self._done("cuStreamWaitEvent", after, event, 0, doing=doing)
            finally:
                driver.cuEventDestroy(event)

    def synchronize(self, device: int, stream: int) -> None:
        """Wait for everything on a stream; raises if a kernel failed."""
        with self.inside(device):
            self._done("cuStreamSynchronize", stream, doing="Running what a stream was given")

    def download(self, array: Any, stream: int | None = None) -> np.ndarray:
        """A copy of any device array on the host, made when the stream, or everything before, has been done."""
        interface = array.__cuda_array_interface__
        made = np.empty(interface["shape"], np.dtype(interface["typestr"]))
        if made.size:
            pointer = interface["data"][0]
            doing = f"Copying {made.nbytes} bytes from the device"
            with self.inside(self.device_of(pointer)):
                if stream is None:
                    self._done("cuCtxSynchronize", doing=doing)
                    self._done("cuMemcpyDtoH", made.ctypes.data, pointer, made.nbytes, doing=doing)
                else:
                    self._done("cuMemcpyDtoHAsync", made.ctypes.data, pointer, made.nbytes, stream, doing=doing)
                    self._done("cuStreamSynchronize", stream, doing=doing)
        return made


def record(context: int, loaded: int, configuration: Any, arguments: Any) -> np.ndarray:
    """The words of a record."""
    if len(arguments) > cuda_launch.MOST:
        raise ValueError(f"a kernel has {len(arguments)} arguments; {cuda_launch.MOST} at most are passed")
    return np.array([context, loaded, *configuration, len(arguments), *map(word, arguments)], np.int64)


def word(x: Any) -> int:
    """The 64-bit word of an argument: the bits of a NumPy scalar from the lowest on, or an address."""
    if isinstance(x, int):
        return x
    return int.from_bytes(x.tobytes().ljust(8, b"\0"), "little", signed=True)


def _three(sizes: int | tuple[int, ...]) -> tuple[int, ...]:
    given = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    return (*given, *[1] * (3 - len(given)))


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
