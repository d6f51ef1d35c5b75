"""The hyper-parameters of every update of a training, from schedules."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.rule import Rule
from ..optimizers.registry import RULES
from ..schedules import Constant, Progress, Schedule, as_schedule

NAG = ("nag", "momentum", "gd")  # forms of Nesterov's rule
ADAPTIVE = ("adam", "adamw", "nadam")  # rules of these names
OPTIMIZERS = (*NAG, *ADAPTIVE)


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


def rule_of(optimizer: str) -> tuple[Rule, tuple[Any, ...]]:
    """The rule of a method and its options."""
    if optimizer in ADAPTIVE:
        return RULES[optimizer], RULES[optimizer].defaults()
    names = list(RULES["nesterov"].options)
    chosen = list(RULES["nesterov"].defaults())
    chosen[names.index("nesterov")] = optimizer != "momentum"
    return RULES["nesterov"], tuple(chosen)
