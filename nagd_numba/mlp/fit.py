"""`MLP.fit`: epochs, rates, validation, and when to stop.  See `MLP.fit` for what it means."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arrays
from ..history import History
from ..rules import RULES
from ..schedules import Constant, Progress, Schedule, as_schedule
from . import checks, engine
from .cells import LOSSES
from .samples import Split, samples, split
from .trainer import Plan, Trainer, evaluate, shuffled

if TYPE_CHECKING:
    from .model import MLP

OPTIMIZERS = ("nag", "momentum", "gd")
METRICS = ("accuracy", "mae", "mse")


def fit(
    model: MLP,
    params: Any,
    X: Any,
    y: Any,
    epochs: int,
    batch_size: int,
    lr: Any,
    momentum: Any,
    optimizer: str,
    vel: Any,
    seed: int,
    shuffle: bool,
    sample_weight: Any,
    validation: Any,
    metrics: Sequence[str],
    patience: int | None,
    min_gain: float,
    target_loss: float | None,
    time_budget: float | None,
    keep: str,
    clip: float | None,
    accumulate: int,
    callback: Callable | None,
    progress: bool,
    history: History | None,
) -> History:
    """See `MLP.fit`."""
    start = time.perf_counter()
    flat = checks.parameters(model, params, write=True)
    state = np.zeros_like(flat) if vel is None else checks.parameters(model, vel, "vel", write=True)
    arrays.no_overlap([("params", flat), ("vel", state)], written=("params", "vel"))
    whole(epochs=epochs, batch_size=batch_size, accumulate=accumulate)
    number = int(checks.seed("seed", seed))
    arrays.choice("optimizer", optimizer, OPTIMIZERS)
    arrays.choice("keep", keep, ("last", "best"))
    wanted = checked_metrics(model, metrics)
    rates = Rates(lr, momentum, optimizer, model.dtype)
    largest = math.inf if clip is None else positive("clip", clip)
    limits = Limits(patience, min_gain, target_loss, time_budget)
    parts = split(model, samples(model, X, y, sample_weight), validation, number)
    past = History() if history is None else history
    past.stopped = None
    if history is not None and past.epochs and vel is None and optimizer != "gd":
        raise ValueError("history has epochs and vel is missing; to continue, give the velocity of that training")

    plan = Plan(
        min(batch_size, len(parts.rows)),
        options=rule_options(optimizer),
        accumulate=accumulate,
        clip=largest,
        measure=bool(wanted),
    )
    trainer = Trainer(model, flat, state, parts.data, plan)
    order = parts.rows.copy()
    updates, steps = trainer.updates(len(order)), trainer.steps(len(order))
    best, best_params = math.inf, flat.copy() if keep == "best" else None
    before = past.seconds
    with ProgressBar(progress, (epochs - past.epochs) * steps, epochs) as told:
        while past.epochs < epochs:
            epoch = past.epochs
            if shuffle:
                shuffled(order, parts.rows, number, epoch)
            reached = Progress(updates, len(order), past["loss"] if epoch else ())
            hyper = rates.of_epoch(epoch * updates, reached)
            sums = trainer.epoch(order, hyper, np.uint64(number), epoch * steps, told.steps)
            values = described(sums, wanted, model)
            values |= {"lr": hyper[-1, 0], "momentum": hyper[-1, 1]}
            if parts.validation is not None:
                values |= validated(model, flat, parts, wanted)
            past.append(values)
            past.seconds = before + time.perf_counter() - start
            told.epoch(past)
            watched = past.last("validation_loss" if parts.validation is not None else "loss")
            if best_params is not None and watched < best:
                best, best_params[:] = watched, flat
            after = Progress(updates, len(order), past["loss"])
            past.stopped = limits.reached(past, parts.validation is not None, rates.lr.ended(after))
            if callback is not None and callback(past) and past.stopped is None:
                past.stopped = "callback"
            if past.stopped is not None:
                break
    if best_params is not None and math.isfinite(best):
        flat[:] = best_params
    if past.stopped == DIVERGED:
        warnings.warn(
            f"training diverged in epoch {past.epochs}: the loss is {past.last('loss')}; a smaller lr or clip= helps",
            RuntimeWarning,
            stacklevel=3,
        )
    arrays.tell_torch(params, *(() if vel is None else (vel,)))
    return past


DIVERGED = "diverged"


class Rates:
    """Learning rate and momentum of each update."""

    def __init__(self, lr: Any, momentum: Any, optimizer: str, dtype: np.dtype) -> None:
        self.lr = as_schedule("lr", lr)
        self.momentum: Schedule = Constant(0.0) if optimizer == "gd" else as_schedule("momentum", momentum)
        self.dtype = dtype

    def of_epoch(self, first: int, progress: Progress) -> np.ndarray:
        """lr, momentum, momentum of the next update, weight decay: a row for each update of the epoch."""
        t = np.arange(first, first + progress.updates + 1)
        hyper = np.zeros((progress.updates, 4))
        hyper[:, 0] = self._checked("lr", self.lr, t[:-1], progress)
        momentum = self._checked("momentum", self.momentum, t, progress)
        hyper[:, 1], hyper[:, 2] = momentum[:-1], momentum[1:]
        return hyper

    def _checked(self, name: str, schedule: Schedule, t: np.ndarray, progress: Progress) -> np.ndarray:
        values = np.broadcast_to(np.asarray(schedule.values(t, progress), float), t.shape)
        with np.errstate(over="ignore"):
            good = np.isfinite(values.astype(self.dtype)) & (values >= 0)
        if not good.all():
            bad = int(np.argmin(good))
            raise ValueError(
                f"{name} is {values[bad]} at update {t[bad]}; a finite number >= 0 is needed (in {self.dtype})"
            )
        return values


class Limits:
    """When training ends before the last epoch."""

    def __init__(self, patience: Any, min_gain: Any, target_loss: Any, time_budget: Any) -> None:
        if patience is not None:
            whole(patience=patience)
        self.patience = patience
        self.min_gain = positive("min_gain", min_gain, zero=True)
        self.target_loss = None if target_loss is None else float(target_loss)
        self.time_budget = None if time_budget is None else positive("time_budget", time_budget)

    def reached(self, history: History, validated: bool, ended: bool) -> str | None:
        """Why to stop now, or None; a function of the history (and of the time, with a budget)."""
        watched = history["validation_loss" if validated else "loss"]
        if not (np.isfinite(history.last("loss")) and np.isfinite(watched[-1])):
            return DIVERGED
        if self.target_loss is not None and watched[-1] <= self.target_loss:
            return "target_loss"
        if ended:
            return "lr"
        if self.patience is not None:
            best, count = math.inf, 0
            for loss in watched:
                count = 0 if loss < best - self.min_gain else count + 1
                best = min(best, loss)
            if count >= self.patience:
                return "patience"
        if self.time_budget is not None and history.seconds >= self.time_budget:
            return "time_budget"
        return None


def rule_options(optimizer: str) -> tuple[Any, ...]:
    """The options of the Nesterov rule for a method."""
    names = list(RULES["nesterov"].options)
    chosen = list(RULES["nesterov"].defaults())
    chosen[names.index("nesterov")] = optimizer != "momentum"
    return tuple(chosen)


def checked_metrics(model: MLP, metrics: Sequence[str]) -> tuple[str, ...]:
    names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    for name in names:
        arrays.choice("metrics", name, METRICS)
        if name != "accuracy" and LOSSES[model.loss_name].labels:
            raise ValueError(f"metrics has {name!r}, and the targets of {model.loss_name} are labels: take 'accuracy'")
    return names


def described(sums: np.ndarray, metrics: Sequence[str], model: MLP) -> dict[str, float]:
    """Loss and metrics, from what the kernels sum up."""
    outputs = 1 if LOSSES[model.loss_name].labels else model.sizes[-1]
    rows = sums[engine.ROWS_SEEN]
    hits = rows * outputs if LOSSES[model.loss_name].binary else rows
    values = {"loss": (sums[engine.LOSS] + sums[engine.PENALTY]) / sums[engine.WEIGHT] if sums[engine.WEIGHT] else 0.0}
    shares = {
        "accuracy": sums[engine.HIT] / hits,
        "mae": sums[engine.ABSOLUTE] / (rows * outputs),
        "mse": sums[engine.SQUARE] / (rows * outputs),
    }
    return values | {name: float(shares[name]) for name in metrics}


def validated(model: MLP, params: np.ndarray, parts: Split, metrics: Sequence[str]) -> dict[str, float]:
    assert parts.validation is not None
    sums = evaluate(model, params, parts.validation, parts.validation_rows)
    return {f"validation_{name}": value for name, value in described(sums, metrics, model).items()}


def whole(**named: Any) -> None:
    """Raise unless these are whole numbers from 1 on."""
    for name, x in named.items():
        if isinstance(x, bool) or not isinstance(x, int | np.integer):
            raise TypeError(f"{name} is {x!r}; a whole number is needed")
        if x < 1:
            raise ValueError(f"{name} is {x}; a whole number from 1 on is needed")


def positive(name: str, x: Any, zero: bool = False) -> float:
    """`x` as a float above 0, or from 0 on."""
    try:
        value = float(x)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {x!r}; a number is needed") from error
    if not (value > 0 or (zero and value == 0)):
        raise ValueError(f"{name} is {x!r}; a number {'>= 0' if zero else '> 0'} is needed")
    return value


class ProgressBar:
    """A progress bar of rich, or nothing."""

    def __init__(self, shown: bool, steps: int, epochs: int) -> None:
        self.shown, self.total, self.epochs = shown, steps, epochs
        self.done = 0

    def __enter__(self) -> ProgressBar:
        if self.shown:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[status]}"))
            self.bars = Progress(*columns, TimeRemainingColumn())
            self.bars.start()
            self.task = self.bars.add_task("training", total=max(1, self.total), status="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown:
            self.bars.stop()

    @property
    def steps(self) -> Callable[[int], None] | None:
        """What is told of the steps done in an epoch."""
        return self._steps if self.shown else None

    def _steps(self, in_epoch: int) -> None:
        self.bars.update(self.task, completed=self.done + in_epoch)
        self.last = in_epoch

    def epoch(self, history: History) -> None:
        if self.shown:
            self.done += self.last
            shown = "  ".join(f"{name} {history.last(name):.4g}" for name in history.to_dict() if "loss" in name)
            self.bars.update(self.task, status=f"epoch {history.epochs}/{self.epochs}  {shown}")
