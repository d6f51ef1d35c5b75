"""When a training ends before its last epoch."""

from __future__ import annotations

import math
from typing import Any

from ..history import History
from ..validation import number, whole

DIVERGED = "diverged"


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
