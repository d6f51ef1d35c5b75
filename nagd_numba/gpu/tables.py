"""Memory for the tables of lists of arrays: each belongs to a stream, and is used again in the order of that stream.

A list with new gradient objects at each step makes a new table at each step.  It lies where that of a step before lay,
so that nothing is allocated and nothing waits.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

KEPT = 16  # spare memories of one size and stream
LEAST = 4096  # bytes

_Key = tuple[Any, int, int, int]  # driver, device, stream, bytes
_spare: dict[_Key, deque[int]] = {}
_elsewhere: deque[tuple[Any, int, int]] = deque()  # used on other streams than its own: driver, address, device
_lock = threading.RLock()  # a collection may give memory back while this thread holds it


class Memory:
    """Device memory of at least so many bytes, first used on `stream`; not to be made while a stream is captured."""

    def __init__(self, driver: Any, nbytes: int, device: int, stream: int) -> None:
        size = max(LEAST, 1 << (nbytes - 1).bit_length())
        self._key = driver, device, stream, size
        self.stream = stream
        self.moved = False  # is it used on another stream, too?
        _free_elsewhere()
        try:
            self.address = _spare[self._key].pop()
        except (KeyError, IndexError):
            self.address = driver.allocate(size, device)

    def __del__(
        self,
        spares: Any = _spare,
        elsewhere: Any = _elsewhere,
        lock: Any = _lock,
        empty: Any = deque,
        most: int = KEPT,
    ) -> None:
        """Make it a spare one: no call of the driver, since this may happen at any time, in a capture too.

        What it needs it has as defaults: when the interpreter exits the names of this module may be gone.
        """
        if not hasattr(self, "address"):
            return
        driver, device, _, _ = self._key
        with lock:
            spare = spares.setdefault(self._key, empty())
            if self.moved or len(spare) >= most:
                elsewhere.append((driver, self.address, device))
            else:
                spare.append(self.address)


@contextlib.contextmanager
def on_device(driver: Any, rows: np.ndarray | None, device: int, stream: int) -> Iterator[tuple[int, ...]]:
    """The address of a table, for launches on the stream in this block; nothing where there is no table."""
    if rows is None:
        yield ()
    elif driver.capturing(stream, device):
        with driver.copied_in_graph(rows, device, stream) as address:
            yield (address,)
    else:
        memory = Memory(driver, rows.nbytes, device, stream)
        driver.send(memory.address, rows, device, stream)
        yield (memory.address,)


def _free_elsewhere() -> None:
    while True:
        try:
            driver, address, device = _elsewhere.popleft()
        except IndexError:
            return
        driver.free(address, device)


def forget(driver: Any) -> None:
    """Drop what is kept of a driver that is used no more."""
    for key in [key for key in _spare if key[0] is driver]:
        del _spare[key]
