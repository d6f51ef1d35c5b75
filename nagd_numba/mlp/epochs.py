"""The loop over the epochs of a training, for `fit`, `fit_many`, the command line and the estimators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from .cpu.trainer import shuffled
from .plan import Plan


class Trainer(Protocol):
    """What trains on a backend: `cpu.trainer.Trainer`, `gpu.trainer.DeviceTrainer`."""

    plan: Plan

    def epoch(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Train over the rows in `order`; the sums of `metrics.described`."""


class Epoch(NamedTuple):
    """An epoch that is done.  With many networks `hyper` and `sums` have an entry for each."""

    number: int
    hyper: np.ndarray
    sums: np.ndarray


def train_epochs(
    trainer: Trainer,
    numbers: Iterable[int],
    order: Callable[[int], np.ndarray],
    hyper: Callable[[int], np.ndarray],
    seed: Any = 0,
    on_call: Callable[[int], None] | None = None,
) -> Iterator[Epoch]:
    """Train, epoch after epoch.

    Parameters
    ----------
    numbers : iterable of int
        The epochs to make; the number of an epoch decides the seeds of its dropout.
    order, hyper : functions of the number
        The rows of the epoch, and the hyper-parameters of its updates.  They are asked when the epoch begins.
    seed : int, or array of one for each network
        Of the dropout.
    on_call : function of the steps done in the epoch
        Called after every call of a kernel.
    """
    for number in numbers:
        rows = order(number)
        rates = hyper(number)
        sums = trainer.epoch(rows, rates, seed, number * trainer.plan.steps(rows.shape[-1]), on_call)
        yield Epoch(number, rates, sums)


class Order:
    """The order of the rows in each epoch: a function of the seed and the epoch; a row for each of many networks."""

    def __init__(self, rows: np.ndarray, seed: int | Sequence[int], shuffle: bool = True) -> None:
        self.rows, self.shuffle = rows, shuffle
        self.seeds = [seed] if isinstance(seed, int) else list(seed)
        self._orders = np.tile(rows, (len(self.seeds), 1))
        self._shown = self._orders[0] if isinstance(seed, int) else self._orders

    def __call__(self, epoch: int) -> np.ndarray:
        if self.shuffle:
            for order, seed in zip(self._orders, self.seeds, strict=True):
                shuffled(order, self.rows, seed, epoch)
        return self._shown
