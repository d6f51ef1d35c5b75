"""The memory that machine code sees: arrays of the device, between which nothing may be touched, and shared memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BANKS, WARP = 32, 32
SHARED = 232448  # bytes that a block may have on Hopper
SHARED_START = 1024  # the first that a kernel's own data may use
_START = 0x7F00_0000_0000
_GAP = 256


class BadAccess(Exception):
    """An access outside of the arrays, or not at a multiple of its width."""


class Placed(NamedTuple):
    """An array in the memory of the device."""

    address: int
    data: np.ndarray  # a view of that memory


class Memory:
    """Words at addresses from `start` on."""

    def __init__(self, start: int, size: int) -> None:
        self.start, self.bytes = start, np.full(size, 0xA5, np.uint8)
        self.words, self.halves = self.bytes.view(np.uint32), self.bytes.view(np.uint16)

    def read(self, addresses: np.ndarray, width: int) -> list[np.ndarray]:
        """The words at each address; narrower elements in a word each."""
        at = self._checked(addresses, width)
        if width >= 4:
            return [self.words[at // 4 + k] for k in range(width // 4)]
        return [(self.bytes if width == 1 else self.halves)[at // width].astype(np.uint32)]

    def write(self, addresses: np.ndarray, width: int, values: list[np.ndarray]) -> None:
        at = self._checked(addresses, width)
        if width >= 4:
            for k, value in enumerate(values):
                self.words[at // 4 + k] = value
        elif width == 2:
            self.halves[at // 2] = values[0].astype(np.uint16)
        else:
            self.bytes[at] = values[0].astype(np.uint8)

    def _checked(self, addresses: np.ndarray, width: int) -> np.ndarray:
        if (addresses % width).any():
            raise BadAccess(f"{width} bytes at {int(addresses[addresses % width != 0][0]):#x}: misaligned")
        at = addresses.astype(np.int64) - self.start
        if (at < 0).any() or (at + width > self.bytes.size).any():
            raise BadAccess(f"{width} bytes at {int(addresses[0]):#x} ...: out of bounds")
        return at


class Device(Memory):
    """Arrays with gaps between them."""

    def __init__(self, size: int = 1 << 24) -> None:
        super().__init__(_START, size)
        self._used = _GAP
        self._allowed = np.zeros(size // 2, bool)  # in units of 2 bytes

    def array(self, values: np.ndarray, offset: int = 0) -> Placed:
        """A copy of the values, `offset` bytes behind a multiple of 256."""
        first = -(-self._used // _GAP) * _GAP + offset
        self._used = first + values.nbytes + _GAP
        data = self.bytes[first : first + values.nbytes].view(values.dtype)
        data[:] = values.ravel()
        self._allowed[first // 2 : (first + values.nbytes + 1) // 2] = True
        return Placed(self.start + first, data)

    def _checked(self, addresses: np.ndarray, width: int) -> np.ndarray:
        at = super()._checked(addresses, width)
        if not (self._allowed[at // 2].all() and self._allowed[(at + width - 1) // 2].all()):
            raise BadAccess(f"{width} bytes at {int(addresses[0]):#x} ...: outside of the arrays")
        return at


def wavefronts(addresses: np.ndarray, lanes: np.ndarray, width: int) -> int:
    """How often shared memory must be asked, when each bank gives one word at a time, to every lane that wants it.

    That is the least; the hardware may take an access of 16 bytes in more parts.
    """
    words = addresses.astype(np.int64)[:, None] // 4 + np.arange(max(1, width // 4))
    wanted = np.unique((lanes // WARP)[:, None] * (1 << 32) + words)
    met = np.unique((wanted >> 32) * BANKS + wanted % BANKS, return_counts=True)
    most = np.zeros(int(met[0][-1]) // BANKS + 1, np.int64)
    np.maximum.at(most, met[0] // BANKS, met[1])
    return int(most.sum())
