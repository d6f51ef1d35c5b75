"""What `fit` and `fit_many` share: rates of each update, when to stop, measures, the progress bar."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import arrays
from ..history import History
from ..rules import RULES, Rule
from ..schedules import Constant, Progress, Schedule, as_schedule
from . import engine
from .cells import LOSSES
from .samples import Split
from .trainer import evaluate

if TYPE_CHECKING:
    from .model import MLP

NAG = ("nag", "momentum", "gd")  # forms of Nesterov's rule
ADAPTIVE = ("adam", "adamw", "nadam")  # rules of these names
OPTIMIZERS = (*NAG, *ADAPTIVE)
METRICS = ("accuracy", "mae", "mse")
DIVERGED = "diverged"


class Rates:
    """The hyper-parameters of each update; the momentum is the `beta1` of the adaptive rules."""

    def __init__(self, lr: Any, momentum: Any, optimizer: str, dtype: np.dtype) -> None:
        self.rule = rule_of(optimizer)[0]
        self.lr = as_schedule("lr", lr)
        self.momentum: Schedule = Constant(0.0) if optimizer == "gd" else as_schedule("momentum", momentum)
        self.dtype = dtype
        self._constant: np.ndarray | None = None

    def of_epoch(self, first: int, progress: Progress) -> np.ndarray:
        """A row for each update of the epoch; lr and momentum come first."""
        if self._constant is not None and len(self._constant) == progress.updates:
            return self._constant
        t = np.arange(first, first + progress.updates + 1)
        named = {name: np.full(progress.updates, value) for name, value in self.rule.hyper.items()}
        named["lr"] = self._checked("lr", self.lr, t[:-1], progress)
        momentum = self._checked("momentum", self.momentum, t, progress)
        if "beta1" in named:
            named["beta1"], named["t"] = momentum[:-1], t[1:]
            if not (momentum < 1).all():
                raise ValueError(f"momentum is {momentum.max()}; with {self.rule.name} it is beta1, which is below 1")
            return np.column_stack(list(named.values()))
        named["momentum"], named["momentum_next"] = momentum[:-1], momentum[1:]
        hyper = np.column_stack(list(named.values()))
        if isinstance(self.lr, Constant) and isinstance(self.momentum, Constant):
            self._constant = hyper
        return hyper

    def _checked(self, name: str, schedule: Schedule, t: np.ndarray, progress: Progress) -> np.ndarray:
        values = np.asarray(schedule.values(t, progress), float)
        if values.shape != t.shape:
            raise ValueError(f"{name}: the schedule gave values of shape {values.shape} for {len(t)} updates")
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
        self._seen, self._best, self._count = 0, math.inf, 0
        self.min_gain = positive("min_gain", min_gain, zero=True)
        self.target_loss = None if target_loss is None else positive("target_loss", target_loss, zero=True)
        self.time_budget = None if time_budget is None else positive("time_budget", time_budget)

    def reached(self, history: History, validated: bool, ended: bool) -> str | None:
        """Why to stop now, or None; a function of the history (and of the time, with a budget)."""
        watched = history.values("validation_loss" if validated else "loss")
        if not (math.isfinite(history.last("loss")) and math.isfinite(watched[-1])):
            return DIVERGED
        if self.target_loss is not None and watched[-1] <= self.target_loss:
            return "target_loss"
        if ended:
            return "lr"
        if self.patience is not None:
            for loss in watched[self._seen :]:
                self._count = 0 if loss < self._best - self.min_gain else self._count + 1
                self._best = min(self._best, loss)
            self._seen = len(watched)
            if self._count >= self.patience:
                return "patience"
        if self.time_budget is not None and history.seconds >= self.time_budget:
            return "time_budget"
        return None


def rule_of(optimizer: str) -> tuple[Rule, tuple[Any, ...]]:
    """The rule of a method and its options."""
    if optimizer in ADAPTIVE:
        return RULES[optimizer], RULES[optimizer].defaults()
    names = list(RULES["nesterov"].options)
    chosen = list(RULES["nesterov"].defaults())
    chosen[names.index("nesterov")] = optimizer != "momentum"
    return RULES["nesterov"], tuple(chosen)


def checked_metrics(model: MLP, metrics: Sequence[str]) -> tuple[str, ...]:
    try:
        names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    except TypeError as error:
        raise TypeError(f"metrics is {metrics!r}; a sequence of {', '.join(METRICS)} is needed") from error
    for name in names:
        arrays.choice("metrics", name, METRICS)
        if name != "accuracy" and LOSSES[model.loss_name].labels:
            raise ValueError(f"metrics has {name!r}, and the targets of {model.loss_name} are labels: take 'accuracy'")
    if "accuracy" in names and model.loss_name == "mse" and model.sizes[-1] == 1:
        raise ValueError("metrics has 'accuracy', and mse with one output has no classes: take 'mae' or 'mse'")
    return names


def described(sums: np.ndarray, metrics: Sequence[str], model: MLP) -> dict[str, float]:
    """Loss and metrics, from what the kernels sum up."""
    outputs = 1 if LOSSES[model.loss_name].labels else model.sizes[-1]
    sums = sums.tolist()
    rows = sums[engine.ROWS_SEEN]
    hits = rows * outputs if LOSSES[model.loss_name].binary else rows
    values = {"loss": (sums[engine.LOSS] + sums[engine.PENALTY]) / sums[engine.WEIGHT] if sums[engine.WEIGHT] else 0.0}
    if not metrics:
        return values
    shares = {
        "accuracy": sums[engine.HIT] / hits,
        "mae": sums[engine.ABSOLUTE] / (rows * outputs),
        "mse": sums[engine.SQUARE] / (rows * outputs),
    }
    return values | {name: float(shares[name]) for name in metrics}


def columns(metrics: Sequence[str], parts: Split) -> set[str]:
    """The columns of the history of such a training."""
    measured = {"loss", *metrics}
    if parts.validation is not None:
        measured |= {f"validation_{name}" for name in measured}
    return {"lr", "momentum", *measured}


@contextlib.contextmanager
def telling(*written: Any) -> Iterator[None]:
    """Afterwards, whatever happens, torch knows that these tensors were written."""
    try:
        yield
    finally:
        arrays.tell_torch(*(x for x in written if x is not None))


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
        if isinstance(x, str | bytes):
            raise TypeError("text")
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
