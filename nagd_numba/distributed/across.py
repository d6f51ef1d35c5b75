"""A guard whose gradient lies on several ranks: the sums of its blocks, collected and added up in their order."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels import reductions
from ..optimizers.guard import Guard
from ..optimizers.guarded_arrays import Whole
from .slices import Slices


class OverRanks(Whole):
    """What `Guard` must know of all slices.  Each rank has all numbers, and adds them up in one order: equal bits."""

    def __init__(self, comm: Any, slices: Slices) -> None:
        self._comm, self._slices = comm, slices

    def totals(self, sums: list[np.ndarray]) -> list[np.ndarray]:
        blocks = self._slices.length // reductions.BLOCK
        made = []
        for mine in sums:
            padded = np.zeros((blocks, reductions.COLUMNS))
            padded[: len(mine) - 1] = mine[:-1]
            everyones = self._comm.all_gather_small(padded.reshape(-1)).reshape(-1, reductions.COLUMNS)
            made.append(_in_order(everyones[: -(-self._slices.n // reductions.BLOCK)]))
        return made

    def count(self, n: int) -> int:
        return int(self._comm.all_gather_small(np.array([n], np.float64)).sum())

    def everything(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate(self._comm.all_gather_object(x)) for x in arrays]


class GuardOverRanks(Guard):
    """A guard of the user's, over all ranks: what it finds out is written down there."""

    def __init__(self, guard: Guard, over: Whole) -> None:
        self._guard, self._over = guard, over

    def step(self, rule: Any, groups: Any, hyper: Any, options: Any, over: Whole | None = None) -> None:
        self._guard.step(rule, groups, hyper, options, self._over)


def _in_order(rows: np.ndarray) -> np.ndarray:
    """The sum of the rows, one addition after another, as the compiled sums are formed."""
    return np.asarray(np.add.accumulate(np.concatenate([np.zeros((1, rows.shape[1])), rows]))[-1])
