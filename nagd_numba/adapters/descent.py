"""An epoch as scikit-learn makes it, on the compiled training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..mlp import MLP
from ..mlp.cpu import train_kernels
from ..mlp.cpu.trainer import Trainer
from ..mlp.dataset import Data
from ..mlp.plan import Normalization, Plan
from ..optimizers.nesterov import KERAS, NO_DECAY

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


class Epochs:
    """Calls make an epoch and return its mean loss, with scikit-learn's factors.

    scikit-learn's gradient is that of the sum over the outputs (of half the squared error); the squared error it
    reports is the mean.
    """

    def __init__(
        self,
        model: MLP,
        flat: np.ndarray,
        descent: Descent,
        X: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray | None,
        batch: int,
    ) -> None:
        squares, labels = model.loss_name == "mse", model.loss_name == "cross_entropy"
        targets = y.argmax(axis=1).astype(np.int64) if labels else np.ascontiguousarray(y, model.dtype)
        plan = Plan(
            batch,
            Normalization(
                gradient_factor=0.5 if squares else 1.0,
                gradient_divisor=1,
                loss_factor=0.5 / model.sizes[-1] if squares else 1.0,
                l2_by_samples=True,
            ),
            options=(KERAS, bool(descent.nesterov), NO_DECAY, False),
        )
        self.weights = np.zeros(0, model.dtype) if weights is None else weights.astype(model.dtype)
        self.trainer = Trainer(model.spec, flat, descent.velocity, Data(X, targets, self.weights), plan)
        self.descent, self.batch = descent, batch
        self.rates = np.zeros((0, 4))

    def __call__(self, order: np.ndarray) -> float:
        updates = self.trainer.plan.updates(len(order))
        if len(self.rates) != updates:
            self.rates = np.zeros((updates, 4))
            self.rates[:, 1:3] = self.descent.momentum
        self.rates[:, 0] = self.descent.learning_rate
        if len(self.weights) == 0:
            return mean_loss(self.trainer.epoch(order, self.rates, 0, 0))
        # The mean loss of a batch counts by its rows, not by their weights: each batch's is needed.
        total = 0.0
        for first in range(0, len(order), self.batch):
            part = order[first : first + self.batch]
            if self.weights[part].sum() != 0:
                total += len(part) * mean_loss(self.trainer.epoch(part, self.rates[:1], 0, 0))
        return total / len(order)


def mean_loss(sums: np.ndarray) -> float:
    """The mean loss with the penalty."""
    return float((sums[train_kernels.LOSS] + sums[train_kernels.PENALTY]) / sums[train_kernels.WEIGHT])
