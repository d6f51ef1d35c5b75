"""The launches of many steps as rows of one table, which compiled code starts (`gpu.driver.Driver.start`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...gpu import driver
from ...gpu.compiler import Kernel
from ...kernels.cuda_launch import ARGUMENTS


class _Part:
    """A launch of some steps: their numbers, its rows, and which arguments come from a list that may change."""

    def __init__(self, steps: np.ndarray, rows: np.ndarray, changing: list[tuple[int, int]]) -> None:
        self.steps, self.rows, self.changing = steps, rows, changing
        self.places = steps  # of the rows in the whole table


class StepRecords:
    """Collects the launches of steps from `first` on; when it has all, `start` starts those of some of them."""

    def __init__(self, first: int, device: int) -> None:
        self._first, self._device, self._driver = first, device, driver.current()
        self._parts: list[_Part] = []

    def of(self, steps: np.ndarray, changing: list[np.ndarray] | None = None) -> Any:
        """What `passes.Network` starts kernels with, in these steps: behind what these steps have so far.

        An argument is the same for all of them, or an array; `change` gives others for the arrays of `changing`.
        """
        numbers = {id(x): c for c, x in enumerate(changing or ())}

        def record(kernel: Kernel, blocks: int | tuple[int, int], threads: int, *arguments: Any) -> None:
            here, firsts, columns, found = self._driver, list(arguments), [], []
            for k, x in enumerate(arguments):
                if isinstance(x, np.ndarray):
                    firsts[k] = 0
                    columns.append((k, x))
                    if id(x) in numbers:
                        found.append((k, numbers[id(x)]))
            loaded, configuration = here.load(kernel, self._device), here.configuration(blocks, threads)
            record = here.record(loaded, self._device, configuration, *firsts)
            rows = np.empty((len(steps), len(record)), np.int64)
            rows[:] = record
            for k, x in columns:
                rows[:, ARGUMENTS + k] = words(x)
            self._parts.append(_Part(steps, rows, found))

        return record

    def finish(self) -> StepRecords:
        """Put the launches into the order in which they are started."""
        steps = np.concatenate([part.steps for part in self._parts])
        order = np.argsort(steps, kind="stable")
        places = np.empty(len(steps), np.int64)
        places[order] = np.arange(len(steps))
        self._table = np.zeros((len(steps), max(part.rows.shape[1] for part in self._parts)), np.int64)
        self._starts = np.concatenate(([0], np.bincount(steps - self._first).cumsum()))
        first = 0
        for part in self._parts:
            part.places = places[first : first + len(part.steps)]
            self._table[part.places, : part.rows.shape[1]] = part.rows
            first += len(part.steps)
        # Of each word that may change its place in the table, its step, and its column in `change`.
        width, changing = self._table.shape[1], [np.empty((3, 0), np.int64)]
        for part in self._parts:
            for k, c in part.changing:
                place = part.places * width + ARGUMENTS + k
                changing.append(np.stack([place, part.steps, np.full(len(part.steps), c)]))
        self._changing = np.concatenate(changing, axis=1)
        del self._parts
        return self

    def change(self, values: np.ndarray, each: int = 1) -> None:
        """Put other values in the place of the arrays `changing`: column c for array c, a row for `each` steps."""
        places, steps, columns = self._changing
        self._table.reshape(-1)[places] = words(values)[steps // each, columns]

    def start(self, first: int, last: int, stream: int) -> None:
        """Start the launches of steps `first` to `last`."""
        start, end = self._starts[first - self._first], self._starts[last - self._first]
        self._driver.start(stream, self._table[start:end])


def words(x: np.ndarray) -> np.ndarray:
    """The 64-bit words of arguments, each with its bits from the lowest on."""
    return x.view(np.uint32) if x.itemsize == 4 else x.view(np.int64)
