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

from nagd_numba.gpu import driver, queue, repeats, tables, target
from nagd_numba.gpu.errors import driver_error
from nagd_numba.kernels import cuda_launch
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
    """The interface of `gpu.driver.Driver`, with memory on the host; compiled launches call `Functions`."""

    def __init__(self, capability=(9, 0), multiprocessors=2, shared_limit=227 << 10, order="forward"):
        self.memory = emulator.Memory()
        self.blocks, self.launches, self.uploads = order, [], 0  # the order of the blocks of a launch
        self.fail = None
        self.waits = []  # how many launches there had been when an event was waited for
        self.copies = []  # what was copied in the order of a stream, and which
        self.captured, self.kept, self.ordered = set(), [], []  # streams under capture, objects, pairs of streams
        self._capability, self._multiprocessors, self._shared_limit = capability, multiprocessors, shared_limit
        self._devices = {}
        self._functions = Functions(self)
        self.entries = self._functions.entries.ctypes.data

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
        with inlining_by_llvm(), target.compiling(self._capability):  # as `gpu.compiler` does
            return emulator.compile(kernel.function, kernel.signature, self._capability)

    def configuration(self, grid, block, shared=0):
        return driver.Driver.configuration(None, grid, block, shared)

    def record(self, loaded, device, configuration, *arguments):
        return driver.record(device + 1, self._functions.handle(loaded), configuration, arguments)

    def start(self, stream, records):
        driver.Driver.start(self, stream, records)

    def launch(self, loaded, device, stream, configuration, *arguments):
        self.start(stream, self.record(loaded, device, configuration, *arguments))

    def launch_error(self, status):
        return self._functions.error or driver_error("cuLaunchKernel", status, "Starting a CUDA kernel")

    def array(self, x, device=0, offset=0, **interface):
        """A device array with a copy of `x`, `offset` bytes behind a multiple of 256."""
        pointer = self.memory.array(x, offset=offset)
        self._devices[pointer] = device
        return Array(pointer, device, interface)

    def empty(self, shape, dtype, device, stream=0):
        self._refuse("empty")
        pointer = self.memory.array(shape, dtype)
        self._devices[pointer] = device
        return Array(pointer, device, {"stream": stream or None})

    def upload(self, x, device, stream=0):
        self.uploads += 1
        self.copies.append(("upload", stream))
        return self.array(x, device, stream=stream or None)

    def rewrite(self, array, x, stream):
        array.pointer.array[...] = x

    def allocate(self, nbytes, device):
        self._refuse("allocate")
        return self.empty(nbytes, np.uint8, device).pointer

    def free(self, pointer, device):
        pass

    def send(self, pointer, x, device, stream):
        assert stream not in self.captured
        self.uploads += 1
        ctypes.memmove(int(pointer), x.ctypes.data, x.nbytes)

    @contextlib.contextmanager
    def copied_in_graph(self, x, device, stream):
        assert stream in self.captured
        yield self.array(x, device).pointer

    def capturing(self, stream, device):
        return bool(cuda_launch.capture_kernel()(self.entries, device + 1, stream))

    def keep(self, x, device, stream):
        self.kept.append(x)

    @contextlib.contextmanager
    def waiting(self, x):
        yield

    def order(self, before, after, device):
        self.ordered.append((before, after))

    def synchronize(self, device, stream):
        self._refuse("synchronize")

    def download(self, array, stream=None):
        if stream is not None:
            self.copies.append(("download", stream))
        return array.copy_to_host()

    def pinned(self, shape, dtype, device):
        return np.zeros(shape, dtype)

    @contextlib.contextmanager
    def inside(self, device):
        yield

    def put(self, to, source, size, stream):
        self.copies.append(("put", stream))
        ctypes.memmove(to, source, size)

    def fetch(self, to, source, size, stream):
        self.copies.append(("fetch", stream))
        ctypes.memmove(to, source, size)

    def copy(self, to, source, size, stream):
        self.copies.append(("copy", stream))
        ctypes.memmove(to, source, size)

    def event(self, device):
        return queue.Event(device, 0)

    def mark(self, event, stream):
        pass

    def wait(self, event):
        self.waits.append(len(self.launches))
        self._refuse("wait")

    def _refuse(self, call):
        if self.fail == call:
            self.fail = None
            raise RuntimeError(f"{call} failed (CUDA_ERROR_OUT_OF_MEMORY)")


_INT, _POINTER = ctypes.c_int, ctypes.c_void_p
_CELLS = {"float": ctypes.c_float, "double": ctypes.c_double, "half": ctypes.c_uint16, "ptr": ctypes.c_uint64}


class Functions:
    """The functions of libcuda that compiled launches call, in Python."""

    def __init__(self, fake):
        self.fake, self.error, self.current = fake, None, 0
        self._kernels, self._before = [], []
        kinds = {
            "cuLaunchKernel": (_POINTER, *[ctypes.c_uint] * 7, _POINTER, ctypes.POINTER(_POINTER), _POINTER),
            "cuCtxGetCurrent": (ctypes.POINTER(ctypes.c_int64),),
            "cuCtxPushCurrent": (ctypes.c_int64,),
            "cuCtxPopCurrent": (ctypes.POINTER(ctypes.c_int64),),
            "cuStreamIsCapturing": (_POINTER, ctypes.POINTER(_INT)),
        }
        self._kept = [ctypes.CFUNCTYPE(_INT, *kinds[name])(getattr(self, f"_{name}")) for name in cuda_launch.FUNCTIONS]
        self.entries = np.array([ctypes.cast(x, _POINTER).value for x in self._kept], np.int64)

    def handle(self, kernel):
        if kernel not in self._kernels:
            self._kernels.append(kernel)
        return 1 + self._kernels.index(kernel)

    def _cuLaunchKernel(self, function, gx, gy, gz, bx, by, bz, shared, stream, places, _):
        try:
            self.error = None
            self.fake._refuse("launch")
            kernel = self._kernels[function - 1]
            values = [_value(kind, place) for kind, place in zip(_kinds(kernel), places, strict=False)]
            self.fake.launches.append((kernel.name, self.current - 1, stream or 0))
            kernel((gx, gy, gz), (bx, by, bz), *values, shared_bytes=shared, order=self.fake.blocks)
        except BaseException as error:  # C knows no exceptions
            self.error = error
            return 719
        return 0

    def _cuCtxGetCurrent(self, found):
        found[0] = self.current
        return 0

    def _cuCtxPushCurrent(self, context):
        self._before.append(self.current)
        self.current = context
        return 0

    def _cuCtxPopCurrent(self, found):
        found[0], self.current = self.current, self._before.pop()
        return 0

    def _cuStreamIsCapturing(self, stream, found):
        found[0] = (stream or 0) in self.fake.captured
        return 0


def _kinds(kernel):
    return getattr(kernel, "kinds", None) or kernel._types


def _value(kind, place):
    """An argument of this kind at an address, as the emulator takes it."""
    cell = _CELLS.get(kind) or getattr(ctypes, f"c_int{max(8, int(kind[1:]))}")
    return cell.from_address(place).value


@contextlib.contextmanager
def installed(**options):
    """A fake driver in the place of the real one."""
    fake = FakeDriver(**options)
    before = driver.use(fake)
    repeats.known.clear()
    try:
        yield fake
    finally:
        driver.use(before)
        repeats.known.clear()
        tables.forget(fake)
        fake.memory.close()
