"""One process that is a job by itself, without an engine: programs for many run as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Alone:
    """See `communicator.Communicator`; there is nobody to send to."""

    engine = "alone"
    on_device = False
    watch: Any = None
    rank, size = 0, 1

    def wait(self, requests: Sequence[Any]) -> None:
        """There are no requests."""

    def start_gather(self, mine: np.ndarray, everyones: np.ndarray) -> Any:
        everyones[0] = mine
        return None

    def all_gather_small(self, mine: np.ndarray) -> np.ndarray:
        everyones = np.empty((self.size, mine.size))
        self.wait([self.start_gather(mine, everyones)])
        return everyones

    def all_gather_object(self, x: Any) -> list[Any]:
        return [x]

    def broadcast(self, x: np.ndarray, root: int = 0) -> None:
        """All have it."""

    def barrier(self) -> None:
        """All are there."""

    def reduce_scatter(self, full: Any, shard: Any) -> None:
        shard.copy_to_device(full)

    def all_gather(self, shard: Any, full: Any) -> None:
        full.copy_to_device(shard)
