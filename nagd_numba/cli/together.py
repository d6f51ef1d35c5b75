"""Ctrl-C on many ranks: they stop after the same step, so that none waits for one that has stopped."""

from __future__ import annotations

import time
from typing import Any

SECONDS = 0.1  # from one question to the next


class Stop:
    """Asked by all ranks after the same steps; every question costs a message, so most steps ask none."""

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self._every, self._count, self._last = 1, 0, time.perf_counter()

    def wanted(self, here: bool) -> bool:
        """After a step: must all stop?  Some rank may have wished it a while ago."""
        self._count += 1
        if self._count < self._every:
            return False
        return self.now(here)

    def now(self, here: bool) -> bool:
        """The same, told at once."""
        answers = self._comm.all_gather_object((here, time.perf_counter() - self._last))
        seconds = max(took for _, took in answers)  # the same number on all ranks, and so are those made of it
        if self._count:
            self._every = max(1, min(4 * self._every, int(self._every * SECONDS / max(seconds, 1e-6))))
        self._count, self._last = 0, time.perf_counter()
        return any(stop for stop, _ in answers)
