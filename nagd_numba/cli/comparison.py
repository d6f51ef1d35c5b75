"""The comparison of `nagd-numba train`: one network trained by several methods under equal conditions.

Every method starts from the same parameters and sees the same batches in the same order with the same dropout.
Nothing is printed here.

    config = Config(epochs=5)
    data = split(load_digits(), config.validation, config.seed, config.dtype)
    results = compare(data, config)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..mlp import MLP
from ..mlp.dataset import Data
from ..mlp.dataset import Split as Samples
from ..mlp.dropout import splitmix
from ..mlp.epochs import Order, Trainer, train_epochs
from ..mlp.plan import Plan
from ..mlp.ranks import ranks_of
from ..mlp.rates import Rates, rule_of
from ..optimizers.registry import METHODS
from ..schedules import Progress
from .config import Config
from .data import Split
from .devices import check_tf32, placing, resolve_device, to_host
from .together import Stop

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


@dataclass
class State:
    """Where the training of one method stands at the end of an epoch: all that decides how it goes on."""

    result: Result
    params: Any
    vel: Any


class Comparison:
    """One comparison: `run()` fills `results`, `states` and `best`, which are valid whenever it is interrupted.

    Set `stop` (from a signal handler or another thread) to end a run after the kernel in work: it then raises
    `KeyboardInterrupt`.  With `states` and `best` of an earlier run, `run()` continues it, to the same bits.  A signal
    handler that raises must not do so while `committing` is true, or they would not belong together; `stop` will do.

    With a communicator of several ranks all of them call `run`, with the same data and configuration, and train
    together: see `MLP.fit`.  They end with the same states, and stop together.
    """

    def __init__(self, data: Split, config: Config, comm: Any = None) -> None:
        self.data = data
        self.config = config
        self.comm = comm
        self.device = _of_ranks(config) if comm is not None or config.reproducible else resolve_device(config.device)
        batch = min(config.batch_size, len(data.X))
        if config.reproducible and config.micro_batches > batch:
            raise ValueError(
                f"--micro-batches is {config.micro_batches}, and a batch has {batch} rows; at most as many"
            )
        classes = len(data.preprocessing.classes)
        self.model = MLP(
            (data.X.shape[1], *config.hidden, classes),
            activation=config.activation,
            loss=config.loss,
            dropout=config.dropout,
            l2=config.l2,
            dtype=config.dtype,
            precision=config.precision,
        )
        if config.precision == "tf32":
            check_tf32(self.device)
        self.states: dict[str, State] = {}
        self.best: Best | None = None
        self.stop = False
        self.committing = comm is not None  # messages of ranks must not be broken off: `stop` is for all of them
        self.place = placing(self.device)
        # Cross entropy takes labels; for the others there is one output a class as well.
        self._targets, self._targets_validation = data.y, data.y_validation
        if config.loss != "cross_entropy":
            one_hot = np.eye(classes, dtype=config.dtype)
            self._targets, self._targets_validation = one_hot[data.y], one_hot[data.y_validation]
        self._rows = np.arange(len(data.X))
        self._order = Order(self._rows, config.seed)

    @property
    def results(self) -> list[Result]:
        """What each method reached so far, in the order of the methods."""
        return [self.states[method].result for method in self.config.methods if method in self.states]

    @property
    def batches(self) -> int:
        """Steps in an epoch."""
        return -(-len(self.data.X) // self.config.batch_size)

    def run(
        self,
        on_epoch: Callable[[Result, Epoch], None] | None = None,
        on_batch: Callable[[Result, int], None] | None = None,
    ) -> list[Result]:
        """Train with each method; `on_epoch(result, epoch)` and `on_batch(result, steps so far)` follow it."""
        self._ranks = ranks_of(self.comm, self.config.reproducible, self.config.micro_batches, "nagd-numba train")
        self._together = None if self.comm is None else Stop(self.comm)
        with self._ranks.threads():
            return self._run(on_epoch, on_batch)

    def _run(
        self, on_epoch: Callable[[Result, Epoch], None] | None, on_batch: Callable[[Result, int], None] | None
    ) -> list[Result]:
        train = self.place(self.data.X), self.place(self._targets)
        validation = self.place(self.data.X_validation), self.place(self._targets_validation)
        first_loss = self._prepare(*train)
        for method in self.config.methods:
            state = self.states.get(method)
            if state is None:
                params = self.place(self.model.init(self.config.seed))
                state = State(Result(method, first_loss=first_loss), params, self._no_states(method))
                self.states[method] = state
            self._train(state, train, validation, on_epoch, on_batch)
        return self.results

    def _no_states(self, method: str) -> Any:
        """What the rule of a method keeps beside the parameters, before the first step."""
        return self.place(np.zeros(self.states_size(method), self.config.dtype))

    def states_size(self, method: str) -> int:
        return len(rule_of(method)[0].states) * self.model.size

    def _prepare(self, X: Any, y: Any) -> float:
        """Compile or load all kernels, so that no method pays for it; the loss of the first batch."""
        config = self.config
        params = self.place(self.model.init(config.seed))
        rows = self._order(0)[: config.batch_size].copy()
        for method in config.methods:
            _, trainer = self._trainer(method, self.place(to_host(params)), self._no_states(method), (X, y))
            for _ in train_epochs(
                trainer, [0], lambda _: rows, self._hyper(method), np.uint64(config.seed), self._told
            ):
                pass
        first = self.place(self.data.X[rows]), self.place(self._targets[rows])
        loss, _ = self.model.value_and_grad(params, *first, dropout_seed=self._dropout_seed(0))
        self._validate(params, *first, labels=self.data.y[rows])
        return loss

    def _train(
        self,
        state: State,
        train: tuple[Any, Any],
        validation: tuple[Any, Any],
        on_epoch: Callable[[Result, Epoch], None] | None,
        on_batch: Callable[[Result, int], None] | None,
    ) -> None:
        result = state.result
        if result.diverged:
            return
        start = time.perf_counter() - result.seconds
        # Copies: what an interrupt leaves behind is the state at the end of the last epoch.
        params, vel = self.place(to_host(state.params)), self.place(to_host(state.vel))
        backend, trainer = self._trainer(result.method, params, vel, train)

        def on_call(steps: int) -> None:
            if on_batch is not None:
                on_batch(result, len(result.history) * self.batches + steps)
            self._told(steps)

        numbers = range(len(result.history), self.config.epochs)
        hyper, seed = self._hyper(result.method), np.uint64(self.config.seed)
        for done in train_epochs(trainer, numbers, self._order, hyper, seed, on_call):
            loss, accuracy = self._validate(params, *validation, labels=self.data.y_validation)
            epoch = Epoch(done.number + 1, self._loss(params, *train), loss, accuracy)
            after = self.place(to_host(params)), self.place(backend.states().copy())
            self.committing = True
            state.params, state.vel = after
            if self._is_best(epoch):
                self.best = Best(result.method, epoch, to_host(params))
            result.history.append(epoch)
            result.seconds = time.perf_counter() - start
            self.committing = self.comm is not None
            self._check_stop(at_once=True)
            if on_epoch is not None:
                on_epoch(result, epoch)
            if not math.isfinite(epoch.train_loss):
                return

    def _trainer(self, method: str, params: Any, vel: Any, train: tuple[Any, Any]) -> tuple[Any, Trainer]:
        """Where these parameters are, and what trains them there, in place."""
        rule, options = rule_of(method)
        plan = Plan.of(self.model.spec, len(self._rows), self.config.batch_size, 1, rule, options)
        samples = Samples(Data(*train, np.zeros(0, self.config.dtype)), self._rows, None, self._rows[:0])
        backend = self._ranks.backend(self.model.spec, params, vel, method)
        return backend, backend.trainer(samples, plan)

    def _hyper(self, name: str) -> Callable[[int], np.ndarray]:
        """The hyper-parameters of the updates of each epoch."""
        method, rule = METHODS[name], rule_of(name)[0]
        lr, momentum = self.config.pair(name)
        if momentum is None:  # not that of the command line
            momentum = {**rule.hyper, **method.hyper}.get(method.momentum or "", 0.0)
        rates = Rates(lr, momentum, name, self.model.dtype)
        reached = Progress(self.batches, len(self._rows))
        return lambda epoch: rates.of_epoch(epoch * self.batches, reached)

    def _told(self, _: int) -> None:
        """After every call of a kernel."""
        self._check_stop()

    def _dropout_seed(self, step_number: int) -> int:
        """That of `MLP.fit`: a function of the run's seed and the number of the step."""
        return int(splitmix(np.uint64(self.config.seed), np.uint64(step_number)))

    def _validate(self, params: Any, X: Any, y: Any, labels: np.ndarray) -> tuple[float, float]:
        def right(rows: slice) -> int:
            return int((to_host(self.model.forward(params, X[rows])).argmax(axis=1) == labels[rows]).sum())

        return self._loss(params, X, y), sum(self._of_chunks(len(labels), right)) / len(labels)

    def _loss(self, params: Any, X: Any, y: Any) -> float:
        losses = self._of_chunks(len(X), lambda rows: self.model.loss(params, X[rows], y[rows]) * len(X[rows]))
        total = 0.0
        for x in losses:  # whose `sum` has other bits from Python 3.12 on
            total += x
        return total / len(X)

    def _of_chunks(self, rows: int, function: Callable[[slice], float]) -> list[float]:
        """What a function gives for some rows after others; the ranks share the work."""
        chunks = _chunks(rows)
        rank, size = (0, 1) if self.comm is None else (self.comm.rank, self.comm.size)
        mine = []
        for chunk in chunks[rank::size]:
            mine.append(function(chunk))
            if self.comm is None:
                self._check_stop()
        if self.comm is None:
            return mine
        everyones = self.comm.all_gather_object(mine)
        return [everyones[k % size][k // size] for k in range(len(chunks))]

    def _is_best(self, epoch: Epoch) -> bool:
        if not (math.isfinite(epoch.train_loss) and math.isfinite(epoch.validation_loss)):
            return False
        if self.best is None:
            return True
        best = self.best.epoch
        return (epoch.validation_accuracy, -epoch.validation_loss) > (best.validation_accuracy, -best.validation_loss)

    def _check_stop(self, at_once: bool = False) -> None:
        stop = self.stop
        if self._together is not None:
            stop = (self._together.now if at_once else self._together.wanted)(stop)
        if stop:
            raise KeyboardInterrupt


def compare(data: Split, config: Config, on_epoch: Callable[[Result, Epoch], None] | None = None) -> list[Result]:
    """Run a comparison and return its results, in the order of `config.methods`."""
    return Comparison(data, config).run(on_epoch)


def _of_ranks(config: Config) -> str:
    """The device of ranks that train together, or alone in their order of sums."""
    if config.device == "cuda":
        raise ValueError("--device cuda: many processes, and --reproducible, train on the CPU; leave it out")
    return "cpu"


def _chunks(rows: int) -> list[slice]:
    return [slice(start, start + EVALUATION_ROWS) for start in range(0, rows, EVALUATION_ROWS)]
