"""The settings of a rule's public step: checked by it, on no elements, before any rank writes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..optimizers.optimizer import Optimizer
from ..optimizers.registry import OPTIMIZERS


def optimizer_named(rule: Any) -> Optimizer:
    """The optimizer of a name of the registry, or of a public step."""
    for name, optimizer in OPTIMIZERS.items():
        if rule is optimizer.step or (isinstance(rule, str) and rule in (name, optimizer.name)):
            return optimizer
    near = difflib.get_close_matches(str(rule), OPTIMIZERS, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"rule is {rule!r}; one of {', '.join(map(repr, OPTIMIZERS))} is needed{hint}")


class Settings:
    """What a public step takes behind its arrays: given once, and numbers also for a single step."""

    def __init__(self, optimizer: Optimizer, dtype: np.dtype, given: Mapping[str, Any]) -> None:
        self.optimizer = optimizer
        self.counts = optimizer.rule.counts_steps and "t" in optimizer.settings
        self._none = [np.empty(0, dtype) for _ in optimizer.arrays]
        self._check_names(given, optimizer.settings, "options")
        self.given = dict(given)
        self._check({"t": optimizer.rule.hyper["t"]} if "t" in optimizer.settings else {})

    def of_step(self, numbers: Mapping[str, Any], t: int) -> dict[str, Any]:
        """All settings of the step of this number, checked."""
        if numbers:
            self._check_names(numbers, tuple(filter(self.optimizer.is_number, self.optimizer.settings)), "numbers")
        if self.counts and "t" not in numbers:
            numbers = {**numbers, "t": t}
        return self._check(numbers)

    def _check(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        settings = {**self.given, **numbers}
        if "t" in settings and self.counts and settings["t"].__class__ is float and settings["t"].is_integer():
            settings["t"] = int(settings["t"])
        if "t" in self.optimizer.settings and "t" not in settings:
            raise TypeError(f"t is missing; {self.optimizer.name} needs it for every step: step(grads, t=...)")
        self.optimizer.step(*self._none, **settings)
        return settings

    @staticmethod
    def _check_names(given: Mapping[str, Any], allowed: tuple[str, ...], what: str) -> None:
        for name in given:
            if name not in allowed:
                near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"{name} is none of the {what} here: {', '.join(allowed)}{hint}")
