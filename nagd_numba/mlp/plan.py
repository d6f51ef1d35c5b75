"""How training steps are made: what `fit`, the command line and the estimators ask of a trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels.rule import Rule
from ..optimizers.registry import RULES


@dataclass(frozen=True)
class Plan:
    """How steps are made."""

    batch: int
    rule: Rule = RULES["nesterov"]
    options: tuple[Any, ...] = RULES["nesterov"].defaults()
    accumulate: int = 1
    clip: float = np.inf
    measure: bool = False
    by_samples: bool = False  # the penalty is divided by the samples of a batch
    slope_factor: float | None = None  # of the gradient, times the samples; None: of the mean that MLP.loss is
    loss_factor: float | None = None
