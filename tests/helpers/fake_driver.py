"""A CUDA driver that runs kernels in the emulator, so that everything above the driver is the real thing.

    with fake_driver.installed() as gpu:
        p = gpu.array(np.zeros(100, np.float32))     # has __cuda_array_interface__
        nagd_numba.step(p, g, v)
        gpu.download(p)

Memory has redzones; streams only record what was started on them.  `gpu.fail` names a call that shall fail next.
"""

import contextlib
import ctypes

import numpy as np

from nagd_numba.gpu import driver, launch, streams
from nagd_numba.kernels.jit import inlining_by_llvm
from tests import emulator


class Array:
    """A device array, as any library might have it."""

    def __init__(self, pointer, device, interface=None):
        self.pointer, self.device, self._changes = pointer, device, interface or {}
        self.shape, self.dtype = pointer.array.shape, pointer.array.dtype

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "strides": None,
            "data": (int(self.pointer), False),
            "version": 3,
            **self._changes,
        }

    def copy_to_host(self):
        interface = self.__cuda_array_interface__
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        memory = (ctypes.c_char * size).from_address(interface["data"][0])
        return np.frombuffer(memory, self.dtype).reshape(self.shape).copy()

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        start, stop, step = rows.indices(self.shape[0])
        assert step == 1
        made = Array(self.pointer, self.device)
        made.dtype, made.shape = self.dtype, (max(0, stop - start), *self.shape[1:])
        size = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        made.owner, made._changes = self, {"data": (int(self.pointer) + start * size, False)}
        return made

    def reshape(self, *shape):
        made = Array(self.pointer, self.device, self._changes)
        made.dtype, made.shape = self.dtype, np.empty(self.shape, np.int8).reshape(*shape).shape
        return made


class FakeDriver:
    """The interface of `gpu.driver.Driver`, with memory on the host."""

    def __init__(self, capability=(9, 0), multiprocessors=2, shared_limit=227 << 10, order="forward"):
        self.memory = emulator.Memory()
        self.order, self.launches, self.uploads = order, [], 0
        self.fail = None
        self._capability, self._multiprocessors, self._shared_limit = capability, multiprocessors, shared_limit
        self._devices = {}

    def why_not(self):
        return None

    def capability(self, device):
        return self._capability

    def multiprocessors(self, device):
        return self._multiprocessors

    def shared_limit(self, device):
        return self._shared_limit

    def device_of(self, pointer):
        if not any(start <= pointer <= start + start.nbytes for start in self._devices):
            raise ValueError(f"0x{pointer:x} is not memory of a CUDA device (CUDA_ERROR_INVALID_VALUE)")
        return next(device for start, device in self._devices.items() if start <= pointer <= start + start.nbytes)

    def load(self, kernel, device, shared=0):
        self._refuse("load")
        with inlining_by_llvm():  # as `gpu.compiler` does
            return emulator.compile(kernel.function, kernel.signature, self._capability)

    def configuration(self, grid, block, shared=0):
        return grid, block, shared

    def stream(self, handle):
        return handle

    def launch(self, loaded, device, stream, configuration, *arguments):
        self._refuse("launch")
        grid, block, shared = configuration
        self.launches.append((loaded.name, device, stream))
        loaded(grid, block, *arguments, shared_bytes=shared, order=self.order)

    def array(self, x, device=0, offset=0, **interface):
        """A device array with a copy of `x`, `offset` bytes behind a multiple of 256."""
        pointer = self.memory.array(x, offset=offset)
        self._devices[pointer] = device
        return Array(pointer, device, interface)

    def empty(self, shape, dtype, device):
        self._refuse("empty")
        pointer = self.memory.array(shape, dtype)
        self._devices[pointer] = device
        return Array(pointer, device)

    def upload(self, x, device):
        self.uploads += 1
        return self.array(x, device)

    def rewrite(self, array, x, stream):
        array.pointer.array[...] = x

    def synchronize(self, device, stream):
        self._refuse("synchronize")

    def download(self, array):
        return array.copy_to_host()

    def _refuse(self, call):
        if self.fail == call:
            self.fail = None
            raise RuntimeError(f"{call} failed (CUDA_ERROR_OUT_OF_MEMORY)")


@contextlib.contextmanager
def installed(**options):
    """A fake driver in the place of the real one."""
    fake = FakeDriver(**options)
    before = driver.use(fake)
    streams._kept.cache_clear()
    launch._known.clear()
    try:
        yield fake
    finally:
        driver.use(before)
        streams._kept.cache_clear()
        launch._known.clear()
        fake.memory.close()
