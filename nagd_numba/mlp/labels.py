"""What training makes of labels before the kernels see them: targets that are smoothed, weights of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..validation import number
from .arguments import implies_one_hot
from .losses import LOSSES
from .spec import NetworkSpec


@dataclass(frozen=True)
class Labels:
    """How targets are smoothed, and the weights of their classes; `Labels.checked` makes it of unchecked arguments."""

    smoothing: float = 0.0
    class_weight: Any = None

    @classmethod
    def checked(cls, spec: NetworkSpec, smoothing: Any, class_weight: Any) -> Labels:
        """Raises for what does not fit the loss of a network."""
        share = number("label_smoothing", smoothing, high=1.0, high_open=True)
        if share > 0 and not LOSSES[spec.loss].coupled:
            raise ValueError(f"label_smoothing is {share!r}, and the loss {spec.loss!r}; it is for cross_entropy")
        if class_weight is not None and not (
            isinstance(class_weight, Mapping) or (isinstance(class_weight, str) and class_weight == "balanced")
        ):
            raise TypeError(
                f"class_weight is {class_weight!r}; None, 'balanced' or a dict of weights by class is needed"
            )
        return cls(share, class_weight)

    def smoothed(self, spec: NetworkSpec, t: np.ndarray) -> np.ndarray:
        """`(1 - smoothing) t + smoothing / outputs`, of labels as of the probabilities 0 and 1."""
        if self.smoothing == 0:
            return t
        least = self.smoothing / spec.sizes[-1]
        if t.ndim == 2:
            return ((1 - self.smoothing) * t.astype(np.float64) + least).astype(spec.dtype)
        made = np.full((len(t), spec.sizes[-1]), least, spec.dtype)
        made[np.arange(len(t)), t] = 1 - self.smoothing + least
        return made

    def weighted(self, spec: NetworkSpec, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
        """The weights of the samples, those of their classes included: float64; `y` is as it was given."""
        if self.class_weight is None:
            return weights
        kind, outputs = LOSSES[spec.loss], spec.sizes[-1]
        if kind.binary and outputs == 1:
            y, count = y.reshape(-1), 2
        elif y.ndim == 1 and (kind.coupled or implies_one_hot(spec, y.dtype, y.shape)):
            count = outputs
        else:
            raise ValueError(
                f"class_weight is given, and y has shape {y.shape} and dtype {y.dtype}; "
                f"labels are needed, one for each sample"
            )
        own = np.ones(len(y)) if weights is None else weights.astype(np.float64)
        labels = y.astype(np.int64)
        return own * class_weights(self.class_weight, labels, own, count)[labels]


AS_THEY_ARE = Labels()


def class_weights(given: Any, labels: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """The weights of so many classes, with the meaning of scikit-learn's `class_weight`.

    "balanced" is the weight of all samples, divided by that of the class and by the number of classes that there are; a
    mapping has 1 for classes that are not in it.
    """
    if isinstance(given, str):
        masses = np.bincount(labels, weights, count)
        there = np.count_nonzero(np.bincount(labels, minlength=count))
        with np.errstate(all="ignore"):
            return np.where(masses > 0, weights.sum() / (there * masses), 0.0)
    made = np.ones(count)
    for label, weight in given.items():
        if label not in range(count):
            raise ValueError(f"class_weight has the class {label!r}; the classes are 0 to {count - 1}")
        made[int(label)] = number(f"class_weight[{label!r}]", weight)
    return made
