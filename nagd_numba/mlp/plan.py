"""How training steps are made: what `fit`, the command line and the estimators ask of a trainer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..kernels.rule import Rule
from ..optimizers.registry import RULES
from .spec import NetworkSpec, terms


@dataclass(frozen=True)
class Normalization:
    """What the loss of a batch is scaled by.  Its samples are their number, or the sum of their weights.

    gradient_factor, gradient_divisor   the gradient is that of `factor / (samples divisor)` times the sum of the losses
    loss_factor                         the loss that is recorded is `loss_factor / samples` times the sum of the losses
    l2_by_samples                       the penalty is divided by the samples of the batch
    """

    gradient_factor: float
    gradient_divisor: int
    loss_factor: float
    l2_by_samples: bool = False

    @classmethod
    def mean(cls, spec: NetworkSpec) -> Normalization:
        """That of `MLP.loss`: the mean over the samples and, where these are not coupled, over the outputs."""
        outputs = terms(spec)
        return cls(1.0, outputs, 1.0 / outputs)


@dataclass(frozen=True)
class Plan:
    """How steps are made: rows of a batch, the rule of the updates with its options, and what is summed up."""

    batch: int
    normalization: Normalization
    rule: Rule = RULES["nesterov"]
    options: tuple[Any, ...] = RULES["nesterov"].defaults()
    accumulate: int = 1  # batches of an update
    clip: float = math.inf  # largest Euclidean norm of a gradient
    measure: bool = False  # sum up what the metrics need

    @classmethod
    def of(
        cls,
        spec: NetworkSpec,
        rows: int,
        batch_size: int,
        accumulate: int,
        rule: Rule,
        options: tuple[Any, ...],
        clip: float = math.inf,
        measure: bool = False,
    ) -> Plan:
        """That of the mean loss, with batches and updates of no more than there is in so many rows."""
        batch, together = min(batch_size, rows), min(accumulate, rows)
        return cls(batch, Normalization.mean(spec), rule, options, together, clip, measure)

    def steps(self, rows: int) -> int:
        """Batches in an epoch over so many rows."""
        return -(-rows // self.batch)

    def updates(self, rows: int) -> int:
        """Updates in an epoch over so many rows."""
        return -(-self.steps(rows) // self.accumulate)

    def updates_of(self, steps: int, rows: int) -> int:
        """Updates in so many steps from the beginning of such an epoch, whose last update may be of fewer batches."""
        return steps // self.accumulate if steps < self.steps(rows) else self.updates(rows)
