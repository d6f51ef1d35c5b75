"""Values that fall when the losses do not.

What they have seen is in the losses so far, which the history of a training has: they keep no state, and a resumed
training goes on with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..validation import flag, number, prefixed, whole
from .base import Progress, Schedule


@dataclass(frozen=True)
class Adaptive(Schedule):
    """scikit-learn's `adaptive`: a fifth of the rate when the loss has stopped falling; training ends at `least`.

    An epoch counts whose training loss is not below the best before by `tolerance`; one that is ends the count.  When
    more than `patience` have counted, the rate is divided by 5, or, at `least` or below, training ends.

    Parameters
    ----------
    initial, tolerance, least : float
        Finite, >= 0.
    patience : int
        Epochs, >= 0.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    Examples
    --------
    >>> Adaptive(1.0, patience=1).values(np.arange(2), Progress(10, 100, [3.0, 2.0, 2.0, 2.0]))
    array([0.2, 0.2])
    """

    initial: float
    patience: int = 10
    tolerance: float = 1e-4
    least: float = 1e-6

    def __post_init__(self) -> None:
        with prefixed("Adaptive"):
            number("initial", self.initial)
            whole("patience", self.patience, least=0)
            number("tolerance", self.tolerance)
            number("least", self.least)

    def _follow(self, losses: Iterable[float]) -> tuple[float, bool]:
        rate, best, count = float(self.initial), math.inf, 0
        for loss in losses:
            count = count + 1 if loss > best - self.tolerance else 0
            best = min(best, loss)
            if count > self.patience:
                if rate <= self.least:
                    return rate, True
                rate, count = rate / 5, 0
        return rate, False

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        return np.full(t.shape, self._follow(progress.losses)[0])

    def ended(self, progress: Progress) -> bool:
        """Whether this schedule wants the training to end."""
        return self._follow(progress.losses)[1]


@dataclass(frozen=True)
class Plateau(Schedule):
    """`factor` times the value when the watched loss has stopped falling, but never below `least`.

    The watched loss is that of the validation data, or without them that of the training.  An epoch counts unless its
    loss is below `best (1 - threshold)`, or with `relative=False` below `best - threshold`, of the best that was so far
    below it; one that is ends the count.  When more than `patience` have counted, the value is lowered, and the
    `cooldown` epochs after that do not count.

    Parameters
    ----------
    initial, threshold, least : float
        Finite, >= 0.
    factor : float
        > 0 and < 1.
    patience, cooldown : int
        Epochs, >= 0.
    relative : bool
        See above.
    least_change : float
        A change of at most this is not made; >= 0.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    Notes
    -----
    PyTorch's `ReduceLROnPlateau`, for a loss.

    Examples
    --------
    >>> Plateau(1.0, patience=1).values(np.arange(2), Progress(10, 100, [3.0, 2.0, 2.0, 2.0]))
    array([0.1, 0.1])
    """

    initial: float
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    relative: bool = True
    cooldown: int = 0
    least: float = 0.0
    least_change: float = 1e-8

    def __post_init__(self) -> None:
        with prefixed("Plateau"):
            number("initial", self.initial)
            number("factor", self.factor, high=1.0, low_open=True, high_open=True)
            whole("patience", self.patience, least=0)
            number("threshold", self.threshold)
            flag("relative", self.relative)
            whole("cooldown", self.cooldown, least=0)
            number("least", self.least)
            number("least_change", self.least_change)

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        rate, best, count, cooling = float(self.initial), math.inf, 0, 0
        for loss in progress.watched:
            needed = best * (1.0 - self.threshold) if self.relative else best - self.threshold
            if loss < needed:
                best, count = loss, 0
            else:
                count += 1
            if cooling > 0:
                cooling, count = cooling - 1, 0
            if count > self.patience:
                lower = max(rate * self.factor, self.least)
                rate = lower if rate - lower > self.least_change else rate
                cooling, count = self.cooldown, 0
        return np.full(t.shape, rate)
