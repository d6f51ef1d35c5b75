"""The launches of many steps as rows of one table, which compiled code starts (`gpu.driver.Driver.start`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...gpu import driver
from ...gpu.compiler import Kernel
from ...kernels.cuda_launch import ARGUMENTS


class StepRecords:
    """Collects the launches of steps from `first` on; when it has all, `start` starts those of some of them."""

    def __init__(self, first: int, device: int) -> None:
        self._first, self._device, self._driver = first, device, driver.current()
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def of(self, steps: np.ndarray) -> Any:
        """What `passes.Network` starts kernels with, in these steps: behind what these steps have so far."""

        def record(kernel: Kernel, blocks: int | tuple[int, int], threads: int, *arguments: Any) -> None:
            here = self._driver
            each = [(k, x) for k, x in enumerate(arguments) if isinstance(x, np.ndarray)]
            first = [x[0] if isinstance(x, np.ndarray) else x for x in arguments]
            loaded, configuration = here.load(kernel, self._device), here.configuration(blocks, threads)
            rows = np.tile(here.record(loaded, self._device, configuration, *first), (len(steps), 1))
            for k, x in each:
                rows[:, ARGUMENTS + k] = x.view(np.uint32) if x.itemsize == 4 else x.view(np.int64)
            self._parts.append((steps, rows))

        return record

    def finish(self) -> StepRecords:
        """Put the launches into the order in which they are started."""
        width = max(rows.shape[1] for _, rows in self._parts)
        table = np.zeros((sum(len(rows) for _, rows in self._parts), width), np.int64)
        place = 0
        for _, rows in self._parts:
            table[place : place + len(rows), : rows.shape[1]] = rows
            place += len(rows)
        steps = np.concatenate([steps for steps, _ in self._parts])
        self._table = table[np.argsort(steps, kind="stable")]
        self._starts = np.concatenate(([0], np.bincount(steps - self._first).cumsum()))
        self._parts.clear()
        return self

    def start(self, first: int, last: int, stream: Any) -> None:
        """Start the launches of steps `first` to `last`."""
        start, end = self._starts[first - self._first], self._starts[last - self._first]
        self._driver.start(self._device, stream, self._table[start:end])
