"""Values that change with the epoch or the update, by a formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..validation import number, prefixed, whole
from .base import Progress, Schedule


@dataclass(frozen=True)
class StepDecay(Schedule):
    """A value that is multiplied by `factor` after every so many epochs.

    In epoch `e`, counted from 0, with `n` for `every`:

        value = initial factor^floor(e / n)

    Parameters
    ----------
    initial : float
        Finite, >= 0.
    every : int
        Epochs, >= 1.
    factor : float
        Finite, > 0.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    Examples
    --------
    >>> StepDecay(0.1, every=2, factor=0.5).values(np.array([0, 10, 20, 30, 40]), Progress(10, 100))
    array([0.1  , 0.1  , 0.05 , 0.05 , 0.025])
    """

    foreseeable = True
    initial: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        with prefixed("StepDecay"):
            number("initial", self.initial)
            whole("every", self.every)
            number("factor", self.factor, low_open=True)

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        with np.errstate(all="ignore"):
            return self.initial * self.factor ** (t // progress.updates // self.every).astype(float)


@dataclass(frozen=True)
class MultiStep(Schedule):
    """A value that is multiplied by `factor` at each of some epochs.

    After `k` of the milestones:

        value = initial factor^k

    Parameters
    ----------
    initial : float
        Finite, >= 0.
    milestones : sequence of int
        Epochs, counted from 0, at whose start the value changes: >= 1, in order; one that is there twice counts twice.
    factor : float
        Finite, > 0.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    Notes
    -----
    PyTorch's `MultiStepLR`.

    Examples
    --------
    >>> MultiStep(0.1, [2, 3], factor=0.5).values(np.array([0, 10, 20, 30, 40]), Progress(10, 100))
    array([0.1  , 0.1  , 0.05 , 0.025, 0.025])
    """

    foreseeable = True
    initial: float
    milestones: Sequence[int]
    factor: float = 0.1

    def __post_init__(self) -> None:
        with prefixed("MultiStep"):
            number("initial", self.initial)
            try:
                given = tuple(self.milestones)
            except TypeError as error:
                raise TypeError(f"milestones is {self.milestones!r}; a sequence of epochs is needed") from error
            epochs = tuple(whole(f"milestones[{k}]", epoch) for k, epoch in enumerate(given))
            if sorted(epochs) != list(epochs):
                raise ValueError(f"milestones is {self.milestones!r}; epochs in order are needed")
            number("factor", self.factor, low_open=True)
        object.__setattr__(self, "milestones", epochs)

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        passed = np.searchsorted(np.array(self.milestones, np.int64), t // progress.updates, side="right")
        with np.errstate(all="ignore"):
            return self.initial * self.factor ** passed.astype(float)


@dataclass(frozen=True)
class Exponential(Schedule):
    """A value that falls at every update, by `factor` in an epoch.

    At update `t`, with `n` updates in an epoch:

        value = initial factor^(t / n)

    Parameters
    ----------
    initial : float
        Finite, >= 0.
    factor : float
        Finite, > 0.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    Notes
    -----
    PyTorch's `ExponentialLR` with a step at every update, and `factor` its `gamma` to the power of the updates of an
    epoch; with a step at every epoch it is `StepDecay(initial, 1, gamma)`.

    Examples
    --------
    >>> Exponential(1.0, 0.25).values(np.array([0, 5, 10, 20]), Progress(10, 100))
    array([1.    , 0.5   , 0.25  , 0.0625])
    """

    foreseeable = True
    initial: float
    factor: float

    def __post_init__(self) -> None:
        with prefixed("Exponential"):
            number("initial", self.initial)
            number("factor", self.factor, low_open=True)

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        return self.initial * self.factor ** (t / progress.updates)


@dataclass(frozen=True)
class Linear(Schedule):
    """From `initial` in a line to `final` after `epochs`, and `final` from there: a warm-up, or a decay.

    At update `t` of the first `n`, which make up those epochs:

        value = initial + (final - initial) t / n

    Parameters
    ----------
    initial, final : float
        Finite, >= 0.
    epochs : float
        > 0; need not be whole.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    Notes
    -----
    PyTorch's `LinearLR`.

    Examples
    --------
    >>> Linear(0.1, 0.5, epochs=2).values(np.array([0, 5, 10, 20, 30]), Progress(10, 100))
    array([0.1, 0.2, 0.3, 0.5, 0.5])
    """

    foreseeable = True
    initial: float
    final: float
    epochs: float

    def __post_init__(self) -> None:
        with prefixed("Linear"):
            number("initial", self.initial)
            number("final", self.final)
            number("epochs", self.epochs, low_open=True)

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        end = self.epochs * progress.updates
        passed = np.minimum(t, end)
        values: np.ndarray = (self.initial * (end - passed) + self.final * passed) / end
        return values


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """scikit-learn's `invscaling`: a power of the number of samples, changed at the end of an epoch.

    After `s` samples:

        value = initial / (s + 1)^power

    Parameters
    ----------
    initial, power : float
        Finite, >= 0.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    Examples
    --------
    >>> InverseScaling(1.0).values(np.array([0, 9, 10]), Progress(10, 99))
    array([1. , 1. , 0.1])
    """

    foreseeable = True
    initial: float
    power: float = 0.5

    def __post_init__(self) -> None:
        with prefixed("InverseScaling"):
            number("initial", self.initial)
            number("power", self.power)

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        return self.initial / (t // progress.updates * progress.samples + 1.0) ** self.power
