"""An epoch as scikit-learn makes it, on the compiled training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..mlp import MLP
from ..mlp.averages import AveragedTrainer, averaged_rule
from ..mlp.cpu.trainer import Trainer
from ..mlp.dataset import Data
from ..mlp.epochs import train_epochs
from ..mlp.plan import Normalization, Plan
from ..mlp.sums import LOSS, PENALTY, WEIGHT
from ..optimizers.average import Average
from ..optimizers.conventions import KERAS
from ..optimizers.nesterov import NO_DECAY

SMALLEST_RATE = 1e-6  # at which the adaptive learning rate ends the training


@dataclass
class Descent:
    """The state of a descent in scikit-learn's convention, which `partial_fit` takes up again."""

    learning_rate_init: float
    schedule: str
    momentum: float
    nesterov: bool
    power_t: float
    learning_rate: float
    velocity: np.ndarray
    average: Average | None = None
    averaged: np.ndarray | None = None  # the parameters of which it is the average
    shown: np.ndarray | None = None  # the average when the training ended

    def trained(self, flat: np.ndarray, average: bool | float) -> np.ndarray:
        """The vector to train: `flat`, or one whose average `flat` is to be.

        `average` is that of the estimators.  Where `flat` is no longer what was shown, the average begins anew.
        """
        whether = isinstance(average, bool | np.bool_)
        if whether and not average:
            self.average = self.averaged = None
            return flat
        decay = None if whether else float(average)
        if (
            self.average is None
            or self.averaged is None
            or self.shown is None
            or self.average.decay != decay
            or not np.array_equal(self.shown, flat)
        ):
            self.average, self.averaged = Average(flat, decay), flat.copy()
        self.average.value = flat
        return self.averaged

    def ended(self, flat: np.ndarray) -> None:
        """Remember what the average was."""
        self.shown = None if self.average is None else flat.copy()

    def epoch_ends(self, samples: int) -> None:
        """Lower the rate after so many samples in all, if the schedule says so."""
        if self.schedule == "invscaling":
            self.learning_rate = float(self.learning_rate_init) / (samples + 1) ** self.power_t

    def without_improvement(self) -> tuple[str, bool]:
        """What is done, in words, and whether that is the end."""
        if self.schedule != "adaptive":
            return "Stopping.", True
        if self.learning_rate <= SMALLEST_RATE:
            return "Learning rate too small. Stopping.", True
        self.learning_rate /= 5.0
        return f"Setting learning rate to {self.learning_rate:f}", False


def losses(
    model: MLP,
    params: np.ndarray,
    descent: Descent,
    data: Data,
    rows: int,
    batch: int,
    order: Callable[[int], np.ndarray],
) -> Iterator[float]:
    """Train without end, epoch after epoch, over the `rows` rows that `order(epoch)` gives; yields the mean losses.

    scikit-learn's gradient is that of the sum over the outputs (of half the squared error); the squared error it
    reports is the mean.
    """
    squares = model.loss_name == "mse"
    scaling = Normalization(
        gradient_factor=0.5 if squares else 1.0,
        gradient_divisor=1,
        loss_factor=0.5 / model.sizes[-1] if squares else 1.0,
        l2_by_samples=True,
    )
    plan = Plan(batch, scaling, options=(KERAS, bool(descent.nesterov), NO_DECAY, False))
    rule = plan.rule
    trainer: Trainer | AveragedTrainer
    if descent.average is None:
        trainer = Trainer(model.spec, params, descent.velocity, data, plan)
    else:
        plan = replace(plan, rule=averaged_rule(rule))
        trainer = AveragedTrainer(model.spec, params, descent.velocity, descent.average, data, plan)

    def hyper(count: int) -> np.ndarray:
        rates = np.zeros((plan.updates(count), len(rule.hyper)))
        rates[:, 0], rates[:, 1:3] = descent.learning_rate, descent.momentum
        return rates

    if len(data.weights) == 0:
        for epoch in train_epochs(trainer, itertools.count(), order, lambda _: hyper(rows)):
            yield mean_loss(epoch.sums)
    # The mean loss of a batch counts by its rows, not by their weights: each batch's is needed.
    for number in itertools.count():
        total = 0.0
        parts = [part for part in np.split(order(number), range(batch, rows, batch)) if data.weights[part].sum() != 0]
        for done in train_epochs(trainer, range(len(parts)), parts.__getitem__, lambda _: hyper(1)):
            total += len(parts[done.number]) * mean_loss(done.sums)
        yield total / rows


def mean_loss(sums: np.ndarray) -> float:
    """The mean loss with the penalty."""
    return float((sums[LOSS] + sums[PENALTY]) / sums[WEIGHT])
