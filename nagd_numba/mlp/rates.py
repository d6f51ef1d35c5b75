"""The hyper-parameters of every update of a training, from schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..kernels.rule import Rule
from ..optimizers.registry import METHODS, optimizer_of
from ..schedules import Constant, Progress, Schedule, as_schedule

OPTIMIZERS = tuple(METHODS)  # what `fit` can be asked for


class Rates:
    """The hyper-parameters of each update of a training by a method of the registry.

    The schedule of the learning rate sets `lr`, the one of the momentum what the method says; `t` counts updates from
    1, where the rule has it; all others have the method's values.
    """

    def __init__(self, lr: Any, momentum: Any, optimizer: str, dtype: np.dtype) -> None:
        self.method = METHODS[optimizer]
        self.rule = rule_of(optimizer)[0]
        names = list(self.rule.hyper)
        self.lr = as_schedule("lr", lr)
        used = self.method.momentum is not None
        self.momentum: Schedule = as_schedule("momentum", momentum) if used else Constant(0.0)
        if self.rule.interpolated is not None and not isinstance(self.momentum, Constant):
            raise ValueError(
                f"momentum is a schedule, and with {optimizer} it must be one number: it says where between two points "
                f"the parameters lie"
            )
        self.dtype = dtype
        self._constant: np.ndarray | None = None
        self._recorded = [names.index(name) if name is not None else -1 for name in ("lr", self.method.momentum)]
        self._t = names.index("t") if self.rule.counts_steps else -1

    @property
    def constant(self) -> bool:
        """Are the hyper-parameters the same in every update, but for `t`?"""
        return isinstance(self.lr, Constant) and isinstance(self.momentum, Constant)

    @property
    def foreseeable(self) -> bool:
        """Can the hyper-parameters of an epoch be had before the last has ended?"""
        return self.lr.foreseeable and self.momentum.foreseeable

    def of_epoch(self, first: int, progress: Progress) -> np.ndarray:
        """A row of the rule's hyper-parameters for each update of the epoch; a read-only array may be given again."""
        if self._constant is not None and len(self._constant) == progress.updates:
            return self.counted(self._constant, first)
        t = np.arange(first, first + progress.updates + 1)
        method, values = self.method, {**self.rule.hyper, **self.method.hyper}
        columns = {name: np.full(progress.updates, value) for name, value in values.items()}
        columns["lr"] = self._checked("lr", self.lr, t[:-1], progress)
        momentum = self._checked("momentum", self.momentum, t, progress)
        if method.momentum is not None:
            self._check_momentum(method.momentum, momentum)
            columns[method.momentum] = momentum[:-1]
        if method.momentum_next is not None:
            columns[method.momentum_next] = momentum[1:]
        if self.rule.counts_steps:
            columns["t"] = t[1:]
        hyper = np.column_stack([columns[name] for name in self.rule.hyper])
        if self.constant:
            hyper.flags.writeable = False
            self._constant = hyper
        return hyper

    def counted(self, hyper: np.ndarray, first: int) -> np.ndarray:
        """Rows of another epoch of which nothing differs but `t`, as those of the epoch whose first update this is."""
        if not self.rule.counts_steps:
            return hyper
        made = hyper.copy()
        made[..., self._t] = np.arange(first + 1, first + hyper.shape[-2] + 1)
        return made

    def recorded(self, hyper: Sequence[float]) -> dict[str, float]:
        """The learning rate and the momentum in a row of `of_epoch`; 0 where there is no momentum."""
        lr, momentum = self._recorded
        return {"lr": hyper[lr], "momentum": 0.0 if momentum < 0 else hyper[momentum]}

    def _check_momentum(self, name: str, values: np.ndarray) -> None:
        limits = self.rule.range_of(name)
        if not (values < limits.below).all():
            raise ValueError(
                f"momentum is {values.max()}; with {self.method.name} it is {name}, which is below {limits.below:g}"
            )
        if not (values >= limits.low).all():
            raise ValueError(
                f"momentum is {values.min()}; with {self.method.name} it is {name}, which is at least {limits.low:g}"
            )

    def _checked(self, name: str, schedule: Schedule, t: np.ndarray, progress: Progress) -> np.ndarray:
        values = np.asarray(schedule.values(t, progress), float)
        if values.shape != t.shape:
            raise ValueError(f"{name}: the schedule gave values of shape {values.shape} for {len(t)} updates")
        with np.errstate(all="ignore"):
            good = np.isfinite(values.astype(self.dtype)) & (values >= 0)
        if not good.all():
            bad = int(np.argmin(good))
            raise ValueError(
                f"{name} is {values[bad]} at update {t[bad]}; a finite number >= 0 is needed (in {self.dtype})"
            )
        return values


def rule_of(optimizer: str) -> tuple[Rule, tuple[Any, ...]]:
    """The rule of a method and its options."""
    made = optimizer_of(optimizer)
    return made.rule, made.method_options(METHODS[optimizer])
