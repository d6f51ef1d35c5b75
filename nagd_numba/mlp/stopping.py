"""When a training ends before its last epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..history import History
from ..validation import flag, number, type_of, whole
from .arguments import Element

DIVERGED = "diverged"
_LOSSES = "loss", "validation_loss"


def wants_end(returned: Any) -> bool:
    """Does what a callback returned end the training?"""
    if returned is None:
        return False
    try:
        return flag("what it returned", returned)
    except (TypeError, ValueError) as error:
        shape = f" of shape {returned.shape}" if hasattr(returned, "shape") else ""
        raise TypeError(
            f"callback returned {type_of(returned)}{shape}; True, which ends the training, False or None is needed"
        ) from error


def not_finite(history: History, params: Element | None, vel: Element | None) -> list[str]:
    """What is no longer finite after a training, in words; of the vectors `arguments.bad_element`."""
    found = [
        f"the {name.replace('_', ' ')} is {history.last(name)}"
        for name in _LOSSES
        if name in history and not math.isfinite(history.last(name))
    ]
    for name, bad in (("params", params), ("vel", vel)):
        if bad is not None:
            found.append(f"{name} is {bad[1]} at index {bad[0]}")
    return found


def advice(found: Sequence[str]) -> str:
    """What helps against it."""
    if len(found) == 1 and found[0].startswith("the validation loss"):
        return "are the validation data of another scale?"
    return "a smaller lr or clip= helps"


class Limits:
    """When training ends before the last epoch."""

    def __init__(self, patience: Any, min_gain: Any, target_loss: Any, time_budget: Any) -> None:
        self.patience = None if patience is None else whole("patience", patience)
        self._seen, self._best, self._count = 0, math.inf, 0
        self.min_gain = number("min_gain", min_gain, finite=False)
        self.target_loss = None if target_loss is None else number("target_loss", target_loss, finite=False)
        self.time_budget = (
            None if time_budget is None else number("time_budget", time_budget, low_open=True, finite=False)
        )

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
