"""Schedules of the learning rate and of the momentum, for `MLP.fit`.

A schedule is a function of the number of the update (from 0) and of what training has reached; it holds no state, so a
resumed run continues it.  Any Python function `f(t)` of the update's number is one as well.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .validation import number, prefixed, real, whole

__all__ = [
    "Adaptive",
    "Constant",
    "Cosine",
    "Fista",
    "InverseScaling",
    "Progress",
    "Schedule",
    "StepDecay",
    "Sutskever",
    "as_schedule",
]


@dataclass(frozen=True)
class Progress:
    """What training has reached: updates and samples in an epoch, and the training loss of each epoch so far."""

    updates: int
    samples: int
    losses: Iterable[float] = ()

    def __post_init__(self) -> None:
        with prefixed("Progress"):
            whole("updates", self.updates)
            whole("samples", self.samples)


class Schedule:
    """The base of all schedules: `values(t, progress)` for an array `t` of updates.

    With `foreseeable = True` the values depend on nothing but `t`, `progress.updates` and `progress.samples`, whenever
    they are asked for: training on a device then asks for those of an epoch before the last has ended.
    """

    foreseeable = False

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The value at each update in `t` (int64, counted from 0 over all epochs), as float64."""
        raise NotImplementedError

    def ended(self, progress: Progress) -> bool:
        """Has the schedule come to an end, and training with it?"""
        return False


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value at every update, finite and >= 0.

    >>> Constant(0.1).values(np.arange(3), Progress(10, 100))
    array([0.1, 0.1, 0.1])
    """

    foreseeable = True
    value: float

    def __post_init__(self) -> None:
        with prefixed("Constant"):
            number("value", self.value)

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        return np.full(t.shape, float(self.value))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """`initial factor^floor(epoch / every)`, with epochs counted from 0.

    `initial` is >= 0, `every` a whole number of epochs from 1 on, `factor` > 0.

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
        return self.initial * self.factor ** (t // progress.updates // self.every).astype(float)


@dataclass(frozen=True)
class Cosine(Schedule):
    """A linear warm-up to `peak`, then half a cosine down to `final` at the end of `epochs`, and `final` from there.

    At update `t`, with `w` updates of warm-up and `n` in all: `peak (t+1)/w` for `t < w`, then
    `final + (peak - final) (1 + cos(pi (t-w)/(n-w)))/2`.  `epochs`, > 0, and `warmup`, from
    0 to `epochs`, are in epochs and need not be whole; `peak` and `final` are >= 0.

    Source: I. Loshchilov, F. Hutter, ICLR 2017 (without restarts).

    >>> Cosine(1.0, epochs=3, warmup=1).values(np.array([0, 1, 2, 4, 6]), Progress(2, 100)).round(3)
    array([0.5, 1. , 1. , 0.5, 0. ])
    """

    foreseeable = True
    peak: float
    epochs: float
    warmup: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        with prefixed("Cosine"):
            number("peak", self.peak)
            number("epochs", self.epochs, low_open=True)
            number("warmup", self.warmup, high=real("epochs", self.epochs))
            number("final", self.final)

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        warmup, end = self.warmup * progress.updates, self.epochs * progress.updates
        share = np.clip((t - warmup) / max(end - warmup, 1), 0.0, 1.0)
        falling = self.final + (self.peak - self.final) * (1 + np.cos(math.pi * share)) / 2
        return np.where(t < warmup, self.peak * np.minimum(1.0, (t + 1) / max(warmup, 1)), falling)


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """scikit-learn's `invscaling`: `initial / (s + 1)^power` after `s` samples, changed at the end of an epoch.

    Both are >= 0.

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
        return self.initial / (t // progress.updates * progress.samples + 1.0) ** self.power


@dataclass(frozen=True)
class Adaptive(Schedule):
    """scikit-learn's `adaptive`: a fifth of the rate when the loss has stopped falling; training ends at `least`.

    An epoch counts whose training loss is not below the best before by `tolerance`; one that is ends the count.  When
    more than `patience` have counted, the rate is divided by 5, or, at `least` or below, training ends.
    `patience` is a whole number from 0 on; the others are >= 0.

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
        return np.full(t.shape, self._follow(progress.losses)[0])

    def ended(self, progress: Progress) -> bool:
        return self._follow(progress.losses)[1]


@dataclass(frozen=True)
class Sutskever(Schedule):
    """Sutskever's momentum: `min(1 - 2^(-1 - log2(floor(t/250) + 1)), most)`, with `most` from 0 to 1.

    Source: I. Sutskever et al., ICML 2013, equation 5.

    >>> Sutskever().values(np.array([0, 250, 10**6]), Progress(10, 100))
    array([0.5 , 0.75, 0.99])
    """

    foreseeable = True
    most: float = 0.99

    def __post_init__(self) -> None:
        with prefixed("Sutskever"):
            number("most", self.most, high=1.0)

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        return np.asarray(np.minimum(1 - 2.0 ** (-1 - np.log2(t // 250 + 1)), self.most))


@dataclass(frozen=True)
class Fista(Schedule):
    """FISTA's momentum `(t_k - 1)/t_{k+1}` with `t_1 = 1`, `t_{k+1} = (1 + sqrt(1 + 4 t_k^2))/2`; 0 at update 0.

    Source: A. Beck, M. Teboulle, SIAM J. Imaging Sci. 2 (2009).

    >>> Fista().values(np.array([0, 1, 2, 3]), Progress(10, 100)).round(4)
    array([0.    , 0.    , 0.2818, 0.434 ])
    """

    foreseeable = True

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        values: np.ndarray = _fista(1 << int(t.max(initial=0) + 1).bit_length())[t]
        return values


@functools.lru_cache(maxsize=2)
def _fista(count: int) -> np.ndarray:
    values, t = np.zeros(count), 1.0
    for k in range(1, count):
        following = (1 + math.sqrt(1 + 4 * t * t)) / 2
        values[k] = (t - 1) / following
        t = following
    return values


@dataclass(frozen=True)
class _Function(Schedule):
    """A function of the user's, and what it is called in messages."""

    name: str
    function: Callable[[int], float]

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        return np.array([real(f"{self.name}({update})", self.function(int(update))) for update in t], float)


def as_schedule(name: str, x: Any) -> Schedule:
    """A number, a schedule, or a function of the update's number, as a schedule."""
    if isinstance(x, Schedule):
        return x
    if isinstance(x, type) and issubclass(x, Schedule):
        raise TypeError(f"{name} is the class {x.__name__}; an instance is needed: {x.__name__}(...)")
    if callable(x):
        return _Function(name, x)
    return Constant(number(name, x))
