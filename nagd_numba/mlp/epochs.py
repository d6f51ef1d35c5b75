"""The loop over the epochs of a training, for `fit`, `fit_many`, the command line and the estimators."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
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


class Started(Protocol):
    """An epoch that may still be under way: `gpu.trainer.StartedEpoch`."""

    def sums(self) -> np.ndarray:
        """Wait for its end; what `Trainer.epoch` returns."""


class Asynchronous(Trainer, Protocol):
    """What trains while the host does something else: `gpu.trainer.DeviceTrainer`."""

    def start(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> Started:
        """Start an epoch."""

    def short(self, n: int) -> bool:
        """May the next epoch over n rows start before the end of the last?"""

    def keep(self) -> bool:
        """Remember what is trained, behind what was started, if there is memory for that."""

    def go_back(self) -> None:
        """Make what was remembered that again; wait for it."""

    def finish(self) -> None:
        """Wait for everything that was started."""


def train_epochs(
    trainer: Trainer,
    numbers: Iterable[int],
    order: Callable[[int], np.ndarray],
    hyper: Callable[[int], np.ndarray],
    seed: Any = 0,
    on_call: Callable[[int], None] | None = None,
) -> Generator[Epoch, None, None]:
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


def train_ahead(
    trainer: Asynchronous,
    numbers: Iterable[int],
    order: Callable[[int], np.ndarray],
    hyper: Callable[[int], np.ndarray],
    seed: Any = 0,
    on_call: Callable[[int], None] | None = None,
) -> Generator[Epoch, None, None]:
    """`train_epochs`, but that each epoch is started before the last has ended, if epochs are short.

    `hyper` must not look at what the epochs before it gave.  Whoever takes the epochs closes the generator: then what
    is trained is as it was at the end of the last epoch that was taken.
    """

    def start(number: int) -> tuple[int, int, np.ndarray, Started]:
        rows, rates = order(number), hyper(number)
        first = number * trainer.plan.steps(rows.shape[-1])
        return number, rows.shape[-1], rates, trainer.start(rows, rates, seed, first, on_call)

    remaining = iter(numbers)
    number, following, problem = next(remaining, None), None, None
    now = None if number is None else start(number)
    try:
        while now is not None:
            done, rows, rates, started = now
            number = next(remaining, None)
            if number is not None and trainer.short(rows) and trainer.keep():
                try:
                    following = start(number)
                except Exception as error:  # the epoch that is under way comes first
                    problem = error
            yield Epoch(done, rates, started.sums())
            if problem is not None:
                raise problem
            now, following = start(number) if following is None and number is not None else following, None
    finally:
        if following is None:
            trainer.finish()
        else:
            trainer.go_back()


class Order:
    """The order of the rows in each epoch: a function of the seed and the epoch; a row for each of many networks."""

    def __init__(self, rows: np.ndarray, seed: int | Sequence[int], shuffle: bool = True) -> None:
        self.rows, self.shuffle = rows, shuffle
        self.seeds = np.atleast_1d(np.array(seed, np.uint64))
        self._orders = np.tile(rows, (len(self.seeds), 1))
        self._shown = self._orders[0] if isinstance(seed, int) else self._orders

    def __call__(self, epoch: int) -> np.ndarray:
        if self.shuffle:
            shuffled(self._orders, self.rows, self.seeds, epoch)
        return self._shown
