"""Device memory and pinned host memory: allocations apart from each other, filled with NaN, poisoned when freed.

Addresses are never used again, so that whoever still uses freed memory is found.
"""

import bisect
import ctypes
import mmap
from collections import deque

from .. import emulator
from .errors import CudaError
from .operations import place

GARBAGE = 0xFF  # of memory that nobody has written, and of freed memory: NaN, or -1
ALIGNMENT, REDZONE = 512, 512
VIRTUAL = 1 << 38  # addresses of a device, which cost nothing until they are used
KEPT = 256 << 20  # bytes of freed memory whose poison is kept

HOST, DEVICE = 1, 2  # CU_MEMORYTYPE_*


class Allocation:
    def __init__(self, address, nbytes, kind, device, context, origin):
        self.address, self.nbytes, self.kind, self.device, self.context = address, nbytes, kind, device, context
        self.origin, self.freed, self.live = origin, "", False
        self.managed = self.pooled = False

    @property
    def end(self):
        return self.address + self.nbytes

    def __str__(self):
        what = "device memory" if self.kind == DEVICE else "pinned memory"
        gone = f", freed at {self.freed}" if self.freed else "" if self.live else ", not yet allocated in its stream"
        return f"{what} 0x{self.address:x} ({self.nbytes} bytes, allocated at {self.origin}{gone})"


class Space:
    """All memory that the driver has given out."""

    def __init__(self, sizes):
        """`sizes`: the bytes of memory of each device."""
        self.sizes = sizes
        self.used = [0] * len(sizes)
        self._maps, self._next = {}, {}
        self._starts, self._all = [], []
        self._poisoned, self._poisoned_bytes = deque(), 0

    def allocate(self, nbytes, kind, device, context, live=True):
        """New memory of a device, or (device None) of the host."""
        if device is not None and self.used[device] + nbytes > self.sizes[device]:
            raise CudaError("OUT_OF_MEMORY", f"{nbytes} bytes; {self.sizes[device] - self.used[device]} are free")
        if device not in self._maps:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
            made = mmap.mmap(-1, VIRTUAL, flags=flags)
            self._maps[device] = made
            self._next[device] = ctypes.addressof(ctypes.c_char.from_buffer(made)) + ALIGNMENT
        address = self._next[device]
        self._next[device] = -(-(address + nbytes + REDZONE) // ALIGNMENT) * ALIGNMENT
        made = Allocation(address, nbytes, kind, device, context, place())
        at = bisect.bisect(self._starts, address)
        self._starts.insert(at, address)
        self._all.insert(at, made)
        if device is not None:
            self.used[device] += nbytes
        if live:
            self.begin(made)
        return made

    def pin(self, address, nbytes, context):
        """Host memory of the program's becomes pinned."""
        made = Allocation(address, nbytes, HOST, None, context, place())
        at = bisect.bisect(self._starts, address)
        self._starts.insert(at, address)
        self._all.insert(at, made)
        made.live = True
        emulator.register(address, nbytes, name=str(made))
        return made

    def unpin(self, made):
        self.end(made, poison=False)
        at = self._all.index(made)
        del self._starts[at], self._all[at]

    def begin(self, made):
        """From now on it can be used."""
        made.live, made.freed = True, ""
        ctypes.memset(made.address, GARBAGE, made.nbytes)
        emulator.register(made.address, made.nbytes, name=str(made))

    def end(self, made, poison=True):
        """From now on it cannot."""
        if made.live:
            emulator.unregister(made.address)
        made.live, made.freed = False, place()
        if poison:
            ctypes.memset(made.address, GARBAGE, made.nbytes)
            self._poisoned.append(made)
            self._poisoned_bytes += made.nbytes
            self._release()

    def give_back(self, made):
        """Its bytes count as free again."""
        if made.device is not None:
            self.used[made.device] -= made.nbytes

    def _release(self):
        while self._poisoned_bytes > KEPT and len(self._poisoned) > 1:
            old = self._poisoned.popleft()
            self._poisoned_bytes -= old.nbytes
            base = ctypes.addressof(ctypes.c_char.from_buffer(self._maps[old.device]))
            first = -(-(old.address - base) // mmap.PAGESIZE) * mmap.PAGESIZE
            last = (old.end - base) // mmap.PAGESIZE * mmap.PAGESIZE
            if last > first and not old.live:
                self._maps[old.device].madvise(mmap.MADV_DONTNEED, first, last - first)

    def at(self, address):
        """The allocation that an address lies in (live or freed), or None."""
        k = bisect.bisect(self._starts, address) - 1
        if k >= 0 and address < max(self._all[k].end, self._all[k].address + 1):
            return self._all[k]
        return None

    def start(self, address):
        """The live allocation that begins here; raises for anything else."""
        found = self.at(address)
        if found is None or found.address != address or found.freed:
            raise CudaError("INVALID_VALUE", f"0x{address:x} is not the start of an allocation: {found}")
        return found

    def why_not(self, address, nbytes):
        """Why these bytes cannot be read or written, or None; memory that the driver did not give out is the host's."""
        found = self.at(address)
        if found is None:
            near = self._all[max(0, bisect.bisect(self._starts, address) - 1)] if self._all else None
            inside = near is not None and near.kind == DEVICE and near.address <= address < near.end + (1 << 30)
            return f"0x{address:x} is in no allocation; the nearest is {near}" if inside else None
        if not found.live:
            return f"{nbytes} bytes at byte {address - found.address} of {found}"
        if address + nbytes > found.end:
            return (
                f"{nbytes} bytes at byte {address - found.address} of {found}: {address + nbytes - found.end} too many"
            )
        return None

    def live(self):
        return [x for x in self._all if x.live]

    def is_device(self, address):
        found = self.at(address)
        return found is not None and found.kind == DEVICE

    def is_pinned(self, address):
        found = self.at(address)
        return found is not None and (found.kind == HOST or found.managed)
