"""The sweep of `nagd-numba sweep`: a network for each learning rate, momentum and seed, all trained at once.

The networks of one seed start from the same parameters and see the same batches with the same dropout, each as
`MLP.fit` would train it alone, to the last bit.  Nothing is printed here.

    config = SweepConfig(Config(epochs=5), lrs=(0.01, 0.1), momenta=(0.0, 0.9))
    base = config.base
    sweep = Sweep(split(load_digits(), base.validation, base.seed, base.dtype), config)
    sweep.run()
    sweep.best.accuracy
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._version import __version__
from ..history import History
from ..mlp import MLP, fit_many
from .config import SweepConfig
from .data import Split
from .devices import check_tf32, placing, resolve_device, to_host

EVALUATION_ROWS = 4096  # at a time: bounds memory


@dataclass(frozen=True)
class Network:
    """What one network reached after the last epoch."""

    lr: float
    momentum: float
    seed: int
    params: np.ndarray
    accuracy: float  # share of the validation rows
    diverged: bool
    history: History


@dataclass(frozen=True)
class Cell:
    """The networks of one learning rate and momentum: one for each seed."""

    lr: float
    momentum: float
    networks: tuple[Network, ...]

    @property
    def diverged(self) -> int:
        """How many of the networks diverged."""
        return sum(network.diverged for network in self.networks)

    @property
    def accuracy(self) -> float:
        """The mean over the seeds; NaN if one diverged."""
        return math.nan if self.diverged else statistics.fmean(network.accuracy for network in self.networks)

    @property
    def deviation(self) -> float:
        """The standard deviation of the seeds; NaN if one diverged, or if there is one only."""
        if self.diverged or len(self.networks) == 1:
            return math.nan
        return statistics.stdev(network.accuracy for network in self.networks)

    @property
    def loss(self) -> float:
        """The mean validation loss; NaN if one diverged."""
        return (
            math.nan
            if self.diverged
            else statistics.fmean(network.history.last("validation_loss") for network in self.networks)
        )


class Sweep:
    """One sweep: `run()` fills `cells` (a row for each momentum, a cell for each learning rate) and `seconds`.

    Set `stop` (from a signal handler or another thread) to end a run after the epoch in work: it then raises
    `KeyboardInterrupt`, should that exception itself be lost.
    """

    def __init__(self, data: Split, config: SweepConfig) -> None:
        self.data = data
        self.config = config
        base = config.base
        classes = len(data.preprocessing.classes)
        self.model = MLP(
            (data.X.shape[1], *base.hidden, classes),
            activation=base.activation,
            loss=base.loss,
            dropout=base.dropout,
            l2=base.l2,
            dtype=base.dtype,
            precision=base.precision,
        )
        self.device = resolve_device(base.device)
        if base.precision == "tf32":
            check_tf32(self.device)
        self._place = placing(self.device)
        self.points = [
            (lr, momentum, base.seed + i)
            for momentum in config.momenta
            for lr in config.lrs
            for i in range(config.seeds)
        ]
        self.cells: list[list[Cell]] = []
        self.seconds = math.nan
        self.stop = False
        # Cross entropy takes labels; for the others there is one output a class as well.
        self._targets, targets_validation = data.y, data.y_validation
        if base.loss != "cross_entropy":
            one_hot = np.eye(classes, dtype=base.dtype)
            self._targets, targets_validation = one_hot[data.y], one_hot[data.y_validation]
        self._validation = data.X_validation, targets_validation

    @property
    def networks(self) -> list[Network]:
        """All of them, once they are trained."""
        return [network for row in self.cells for cell in row for network in cell.networks]

    @property
    def best(self) -> Cell | None:
        """The cell of the highest mean accuracy, then the lowest loss, among those without a network that diverged."""
        cells = [cell for row in self.cells for cell in row if not cell.diverged]
        return max(cells, key=lambda cell: (cell.accuracy, -cell.loss), default=None)

    def run(self, on_epoch: Callable[[int, Sequence[History]], None] | None = None) -> list[list[Cell]]:
        """Train; `on_epoch(epochs done, histories)` follows it, at first with 0 when the kernels are there."""

        def told(histories: list[History]) -> bool:
            if on_epoch is not None:
                on_epoch(histories[0].epochs, histories)
            return self.stop

        with _without_warnings():
            self._prepare()
            if on_epoch is not None:
                on_epoch(0, ())
            start = time.perf_counter()
            seeds = range(self.config.base.seed, self.config.base.seed + self.config.seeds)
            initial = np.stack([self.model.init(seed) for seed in seeds])
            params = np.tile(initial, (len(self.points) // len(seeds), 1))
            histories = self._fit(params, self.points, len(self.data.X), self.config.base.epochs, told)
        if self.stop:
            raise KeyboardInterrupt
        done = iter([self._judged(*each) for each in zip(self.points, params, histories, strict=True)])
        self.cells = [
            [Cell(lr, momentum, tuple(next(done) for _ in seeds)) for lr in self.config.lrs]
            for momentum in self.config.momenta
        ]
        self.seconds = time.perf_counter() - start
        return self.cells

    def results(self) -> dict[str, Any]:
        """All that was reached, as JSON can hold it: what is no finite number is null."""
        base, best = self.config.base, self.best
        of_base = ("activation", "loss", "dropout", "l2", "dtype", "epochs", "batch_size", "validation", "seed")
        return {
            "nagd_numba": __version__,
            "data": self.data.name,
            "training_rows": len(self.data.X),
            "validation_rows": len(self.data.X_validation),
            "sizes": list(self.model.sizes),
            **{name: getattr(base, name) for name in of_base},
            "optimizer": self.config.optimizer,
            "lr": list(self.config.lrs),
            "momentum": list(self.config.momenta),
            "seeds": self.config.seeds,
            "seconds": self.seconds,
            "networks_per_second": len(self.points) / self.seconds,
            "best": None if best is None else _described(best),
            "cells": [_described(cell) for row in self.cells for cell in row],
            "networks": [
                {
                    "lr": network.lr,
                    "momentum": network.momentum,
                    "seed": network.seed,
                    "validation_accuracy": None if network.diverged else network.accuracy,
                    "diverged": network.diverged,
                    "history": {
                        name: [_finite(value) for value in values.tolist()]
                        for name, values in network.history.to_dict().items()
                        if name not in ("lr", "momentum")
                    },
                }
                for network in self.networks
            ],
        }

    def _prepare(self) -> None:
        """Compile or load all kernels, so that the time is that of the training."""
        params = self.model.init(0)[None]
        rows = min(self.config.base.batch_size, len(self.data.X))
        histories = self._fit(params, self.points[:1], rows, 1, lambda _: self.stop)
        self._judged(self.points[0], params[0], histories[0])
        if self.stop:
            raise KeyboardInterrupt

    def _fit(
        self,
        params: np.ndarray,
        points: Sequence[tuple[float, float, int]],
        rows: int,
        epochs: int,
        callback: Callable[[list[History]], bool],
    ) -> list[History]:
        lrs, momenta, seeds = map(list, zip(*points, strict=True))
        there = self._place(params)
        histories = fit_many(
            *(self.model, there, self.data.X[:rows], self._targets[:rows]),
            epochs=epochs,
            batch_size=self.config.base.batch_size,
            lr=lrs,
            momentum=momenta,
            seed=seeds,
            optimizer=self.config.optimizer,
            validation=self._validation,
            # Its accuracy for binary_cross_entropy is that of each output by itself.
            metrics=() if self.model.loss_name == "binary_cross_entropy" else ("accuracy",),
            callback=callback,
        )
        params[...] = to_host(there)
        return histories

    def _judged(self, point: tuple[float, float, int], params: np.ndarray, history: History) -> Network:
        """A trained network, with the share of the validation rows whose class has the largest output."""
        X, labels, right = self.data.X_validation, self.data.y_validation, 0
        there = self._place(params)
        for first in range(0, len(X), EVALUATION_ROWS):
            rows = slice(first, first + EVALUATION_ROWS)
            outputs = to_host(self.model.forward(there, self._place(X[rows])))
            right += int((outputs.argmax(axis=1) == labels[rows]).sum())
        losses = history.last("loss"), history.last("validation_loss")
        diverged = not (all(map(math.isfinite, losses)) and np.isfinite(params).all())
        return Network(*point, params, right / len(X), diverged, history)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """A network that diverges is a result here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*diverged", category=RuntimeWarning)
        yield


def _described(cell: Cell) -> dict[str, Any]:
    return {
        "lr": cell.lr,
        "momentum": cell.momentum,
        "validation_accuracy": _finite(cell.accuracy),
        "standard_deviation": _finite(cell.deviation),
        "validation_loss": _finite(cell.loss),
        "diverged": cell.diverged,
    }


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None
