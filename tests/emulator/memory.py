"""The memory that kernels may touch, and the state that the compiled code shares with the scheduler."""

import contextlib
import threading

import numpy as np

from . import ptx
from .runtime import REGION_WORDS
from .runtime import runtime as compiled_runtime

MAX_SHARED = 227 << 10  # bytes of shared memory
REDZONE = 256  # bytes around each array that nothing may touch
GARBAGE = 0xFF  # of memory that nobody has written: NaN, or -1
MAX_REGIONS = 4096


class BadAccess(Exception):
    """A kernel touched memory that is not its own, or not at a multiple of what the instruction needs."""


class Region:
    def __init__(self, address, nbytes, writable, name):
        self.address, self.nbytes, self.writable, self.name = address, nbytes, writable, name
        self.cells = {}  # what is remembered of accesses, for each layout: `shadow.py`


class State:
    """What the compiled code and the scheduler share; at addresses that never change."""

    def __init__(self):
        self.words = np.zeros(64, np.uint32)
        self.slots = np.zeros((ptx.MAX_THREADS, ptx.SLOT_WORDS), np.uint32)
        self.status = np.zeros(ptx.MAX_THREADS, np.int32)
        self.sites = np.zeros(ptx.MAX_THREADS, np.int32)
        self.masks = np.zeros(ptx.MAX_THREADS, np.uint32)
        self.known_rounds = np.zeros((ptx.MAX_THREADS, ptx.MAX_THREADS), np.uint32)
        self.pool = np.empty(1 << 28, np.uint8)
        self.regions = np.zeros((MAX_REGIONS, REGION_WORDS), np.uint64)
        self.arena = np.empty(1 << 28, np.uint8)  # pages that nobody touches cost nothing
        self.dynamic = np.empty(MAX_SHARED + 4096, np.uint8)
        self.registered = {}
        self.lock = threading.RLock()

    def address(self, name):
        return getattr(self, name).ctypes.data

    def runtime(self):
        names = ("words", "slots", "status", "sites", "masks", "regions")
        return compiled_runtime(*map(self.address, names), self.span("arena"))

    def span(self, name):
        """Where an array begins and ends."""
        start = self.address(name)
        return start, start + getattr(self, name).nbytes

    def known(self):
        return [self.span("words"), self.span("slots")]

    def set(self, name, value):
        self.words[ptx.WORDS[name]] = value

    def wide(self, name):
        at = ptx.WORDS[name]
        return self.words[at : at + 2].view(np.uint64)

    def list_regions(self, regions, places):
        """Those that a launch may touch, and the place of the cells of each."""
        if len(regions) > MAX_REGIONS:
            raise ValueError(f"{len(regions)} regions of memory; at most {MAX_REGIONS}")
        rows = [(r.address, r.address + r.nbytes, int(r.writable), p, 0) for r, p in zip(regions, places, strict=True)]
        self.regions[: len(rows)] = np.array(rows, np.uint64).reshape(-1, REGION_WORDS)
        self.set("regions", len(regions))

    def touched(self, count):
        """Which of the first `count` regions the launch touched."""
        return self.regions[:count, -1] != 0


state = State()


def register(address, nbytes, writable=True, name=None):
    """Let kernels touch this memory."""
    address = int(address)
    state.registered[address] = Region(address, int(nbytes), writable, name or f"region 0x{address:x}")


def unregister(address):
    """No longer."""
    del state.registered[int(address)]


class Pointer(int):
    """An address, with the NumPy array that lies there as `.array`."""

    array: np.ndarray
    nbytes: int


class Memory:
    """Arrays that kernels may touch, apart from each other; `emulator.memory()` makes one for a `with` block."""

    def __init__(self):
        self._kept = {}

    def array(self, content, dtype=None, offset=0, writable=True, name=None):
        """A copy of an array, or one of a shape that holds garbage, `offset` bytes behind a multiple of 256."""
        made = isinstance(content, (int, tuple))
        source = np.empty(content, dtype or np.float32) if made else np.asarray(content, dtype)
        buffer = np.full(source.nbytes + 2 * REDZONE + 512 + offset, GARBAGE, np.uint8)
        start = -(-(buffer.ctypes.data + REDZONE) // 256) * 256 + offset
        first = start - buffer.ctypes.data
        view = buffer[first : first + source.nbytes].view(source.dtype).reshape(source.shape)
        if not made:
            view[...] = source
        pointer = Pointer(start)
        pointer.array, pointer.nbytes = view, source.nbytes
        self._kept[start] = buffer
        register(start, source.nbytes, writable, name or f"array {len(self._kept) - 1}")
        return pointer

    def free(self, pointer):
        """Give an array back."""
        unregister(pointer)
        del self._kept[int(pointer)]

    def snapshot(self):
        """What the arrays hold now: a function that puts it back."""
        kept = {start: buffer.copy() for start, buffer in self._kept.items()}

        def restore():
            for start, content in kept.items():
                self._kept[start][...] = content

        return restore

    def close(self):
        for start in list(self._kept):
            self.free(start)


@contextlib.contextmanager
def memory():
    """Memory for the length of a `with` block."""
    made = Memory()
    try:
        yield made
    finally:
        made.close()
