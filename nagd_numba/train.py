"""The comparison of `nagd-numba train`: one network trained by several methods under equal conditions.

Every method starts from the same parameters and sees the same batches in the same order with the same dropout; the
learning rate is the same too.  Nothing is printed here.

    config = Config(epochs=5)
    data = split(load_digits(), config.validation, config.seed, config.dtype)
    results = compare(data, config)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from .compile import SIMULATOR
from .data import Split
from .launch import require_cuda, why_no_cuda
from .mlp import MLP
from .step import step
from .train_config import Config

EVALUATION_ROWS = 4096  # at a time: bounds memory, and the wait for an interrupt


@dataclass(frozen=True)
class Epoch:
    """What was reached after an epoch: full passes over both parts, without dropout."""

    number: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float


@dataclass
class Result:
    """How one method fared.  `first_loss`, of the first batch before any step, is the same for all methods."""

    method: str
    history: list[Epoch] = field(default_factory=list)
    first_loss: float = math.nan
    seconds: float = 0.0

    @property
    def diverged(self) -> bool:
        """Is the last loss no number?  The method stops there."""
        return bool(self.history) and not math.isfinite(self.history[-1].train_loss)

    @property
    def best_accuracy(self) -> float:
        return max((epoch.validation_accuracy for epoch in self.history), default=math.nan)

    def epochs_to(self, target: float) -> int | None:
        """The first epoch with a validation accuracy of `target` percent or more."""
        reached = (epoch.number for epoch in self.history if 100 * epoch.validation_accuracy >= target)
        return next(reached, None)


@dataclass(frozen=True)
class Best:
    """The parameters with the highest validation accuracy so far, then the lowest validation loss."""

    method: str
    epoch: Epoch
    params: np.ndarray


class Comparison:
    """One comparison: `run()` fills `results` and `best`, which are valid whenever it is interrupted.

    Set `stop` (from a signal handler or another thread) to end a run after the batch in work: it then raises
    `KeyboardInterrupt`.
    """

    def __init__(self, data: Split, config: Config) -> None:
        self.data = data
        self.config = config
        self.device = resolve_device(config.device)
        classes = len(data.preprocessing.classes)
        self.model = MLP(
            (data.X.shape[1], *config.hidden, classes),
            activation=config.activation,
            loss=config.loss,
            dropout=config.dropout,
            l2=config.l2,
            dtype=config.dtype,
        )
        self.results: list[Result] = []
        self.best: Best | None = None
        self.stop = False
        self._place: Callable[[np.ndarray], Any] = _on_cuda() if self.device == "cuda" else np.ascontiguousarray
        # Cross entropy takes labels; for the others there is one output a class as well.
        one_hot = np.eye(classes, dtype=config.dtype)
        self._targets = data.y if config.loss == "cross_entropy" else one_hot[data.y]
        self._targets_validation = data.y_validation if config.loss == "cross_entropy" else one_hot[data.y_validation]

    @property
    def batches(self) -> int:
        """Steps in an epoch."""
        return -(-len(self.data.X) // self.config.batch_size)

    def prepare(self) -> None:
        """Compile or load all kernels, so that no method pays for it."""
        params = self._place(self.model.init(self.config.seed))
        rows = slice(0, self.config.batch_size)
        X, y = self._place(self.data.X[rows]), self._place(self._targets[rows])
        grads, vel = self._zeros(), self._zeros()
        self.model.value_and_grad(params, X, y, out=grads, dropout_seed=0)
        for method in self.config.methods:
            self._step(method, params, grads, vel)
        self.model.loss(params, X, y)
        self.model.forward(params, X)

    def run(
        self,
        on_epoch: Callable[[Result, Epoch], None] | None = None,
        on_batch: Callable[[Result, int], None] | None = None,
    ) -> list[Result]:
        """Train with each method; `on_epoch(result, epoch)` and `on_batch(result, steps so far)` follow it."""
        self.results, self.best = [], None
        self.prepare()
        # After the kernels were loaded, and with them the BLAS library.  Small products are fastest on one thread.
        with threadpool_limits(1, user_api="blas"):
            train = self._place(self.data.X), self._place(self._targets)
            validation = self._place(self.data.X_validation), self._place(self._targets_validation)
            for method in self.config.methods:
                self._train(method, train, validation, on_epoch, on_batch)
        return self.results

    def _train(
        self,
        method: str,
        train: tuple[Any, Any],
        validation: tuple[Any, Any],
        on_epoch: Callable[[Result, Epoch], None] | None,
        on_batch: Callable[[Result, int], None] | None,
    ) -> None:
        result = Result(method)
        self.results.append(result)
        params = self._place(self.model.init(self.config.seed))
        grads, vel = self._zeros(), self._zeros()
        start = time.perf_counter()
        steps = 0
        for number in range(1, self.config.epochs + 1):
            for X, y, dropout_seed in self._batches(number):
                loss, _ = self.model.value_and_grad(params, X, y, out=grads, dropout_seed=dropout_seed)
                self._step(method, params, grads, vel)
                self._check_stop()
                if steps == 0:
                    result.first_loss = loss
                steps += 1
                if on_batch is not None:
                    on_batch(result, steps)
            epoch = Epoch(number, self._loss(params, *train), *self._validate(params, *validation))
            if self._is_best(epoch):
                self.best = Best(method, epoch, _to_host(params))
            result.history.append(epoch)
            result.seconds = time.perf_counter() - start
            if on_epoch is not None:
                on_epoch(result, epoch)
            if result.diverged:
                return

    def _batches(self, epoch: int) -> Iterator[tuple[Any, Any, int]]:
        """The batches of an epoch and their dropout seeds: functions of the run's seed and the epoch alone."""
        random = np.random.default_rng([self.config.seed, 1, epoch])
        order = random.permutation(len(self.data.X))
        seeds = random.integers(0, 2**63, self.batches)
        X, y = self._place(self.data.X[order]), self._place(self._targets[order])
        for i, seed in enumerate(seeds):
            rows = slice(i * self.config.batch_size, (i + 1) * self.config.batch_size)
            yield X[rows], y[rows], int(seed)

    def _step(self, method: str, params: Any, grads: Any, vel: Any) -> None:
        momentum = 0.0 if method == "gd" else self.config.momentum
        step(params, grads, vel, lr=self.config.lr, momentum=momentum, nesterov=method != "momentum")

    def _validate(self, params: Any, X: Any, y: Any) -> tuple[float, float]:
        right = 0
        labels = self.data.y_validation
        for rows in _chunks(len(labels)):
            right += int((_to_host(self.model.forward(params, X[rows])).argmax(axis=1) == labels[rows]).sum())
            self._check_stop()
        return self._loss(params, X, y), right / len(labels)

    def _loss(self, params: Any, X: Any, y: Any) -> float:
        total = 0.0
        for rows in _chunks(len(X)):
            total += self.model.loss(params, X[rows], y[rows]) * len(X[rows])
            self._check_stop()
        return total / len(X)

    def _is_best(self, epoch: Epoch) -> bool:
        if not (math.isfinite(epoch.train_loss) and math.isfinite(epoch.validation_loss)):
            return False
        if self.best is None:
            return True
        best = self.best.epoch
        return (epoch.validation_accuracy, -epoch.validation_loss) > (best.validation_accuracy, -best.validation_loss)

    def _zeros(self) -> Any:
        return self._place(np.zeros(self.model.size, self.config.dtype))

    def _check_stop(self) -> None:
        if self.stop:
            raise KeyboardInterrupt


def compare(data: Split, config: Config, on_epoch: Callable[[Result, Epoch], None] | None = None) -> list[Result]:
    """Run a comparison and return its results, in the order of `config.methods`."""
    return Comparison(data, config).run(on_epoch)


def resolve_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` is CUDA where there is a GPU.  Raises `ValueError` with the reason where there is not."""
    if device == "auto":
        return "cpu" if SIMULATOR or why_no_cuda() is not None else "cuda"
    if device == "cuda":
        reason = why_no_cuda()
        if reason is not None:
            raise ValueError(f"--device cuda: {reason}")
    return device


def _on_cuda() -> Callable[[np.ndarray], Any]:
    cuda = require_cuda()
    return lambda x: cuda.to_device(np.ascontiguousarray(x))


def _to_host(x: Any) -> np.ndarray:
    return x.copy() if isinstance(x, np.ndarray) else x.copy_to_host()


def _chunks(rows: int) -> list[slice]:
    return [slice(start, start + EVALUATION_ROWS) for start in range(0, rows, EVALUATION_ROWS)]
