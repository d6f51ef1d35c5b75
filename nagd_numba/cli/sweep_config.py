"""What `nagd-numba sweep` can be told, with the defaults, checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ..optimizers.registry import METHODS
from ..validation import choice
from .config import Config

MOST_SEEDS = 10_000


@dataclass(frozen=True)
class SweepConfig:
    """What to run: data, network, epochs and batches are those of `base`.  `ValueError` names the option."""

    base: Config = dataclasses.field(default_factory=Config)
    lrs: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    momenta: tuple[float, ...] = (0.0, 0.5, 0.9, 0.95, 0.99)
    seeds: int = 3
    optimizer: str = "nag"

    def __post_init__(self) -> None:
        lists: dict[str, Any] = {"lr": self.lrs, "momentum": self.momenta}
        for name, values in lists.items():
            for value in values:
                dataclasses.replace(self.base, **{name: value})  # which checks it
            if not values or len(set(values)) < len(values):
                given = ",".join(f"{value:g}" for value in values)
                raise ValueError(f"--{name} is {given!r}; at least one number is needed, and each once")
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise ValueError(f"--seeds is {self.seeds}; a whole number from 1 to {MOST_SEEDS} is needed")
        choice("--optimizer", self.optimizer, tuple(METHODS))
        if METHODS[self.optimizer].momentum is None:
            if self.momenta not in (SweepConfig.momenta, (0.0,)):
                raise ValueError(f"--momentum is given, and {self.optimizer} has none; leave it out")
            object.__setattr__(self, "momenta", (0.0,))
