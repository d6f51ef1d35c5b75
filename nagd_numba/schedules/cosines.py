"""Values that go down a cosine: once, again and again, or up and down."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..validation import choice, flag, number, prefixed, real, whole
from .base import Progress, Schedule


@dataclass(frozen=True)
class Cosine(Schedule):
    """A linear warm-up to `peak`, then half a cosine down to `final` at the end of `epochs`, and `final` from there.

    At update `t`, with `w` updates of warm-up and `n` in all:

        value = peak (t + 1)/w                                              where t < w
        value = final + (peak - final) (1 + cos(pi (t - w)/(n - w)))/2      from there to n

    Parameters
    ----------
    peak, final : float
        Finite, >= 0.
    epochs : float
        > 0; need not be whole.
    warmup : float
        Epochs, from 0 to `epochs`; need not be whole.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    References
    ----------
    I. Loshchilov, F. Hutter, ICLR 2017 (without restarts).

    Examples
    --------
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
        """The values of the updates `t`, an array of the same shape."""
        warmup, end = self.warmup * progress.updates, self.epochs * progress.updates
        share = np.clip((t - warmup) / max(end - warmup, 1), 0.0, 1.0)
        falling = self.final + (self.peak - self.final) * (1 + np.cos(math.pi * share)) / 2
        return np.where(t < warmup, self.peak * np.minimum(1.0, (t + 1) / max(warmup, 1)), falling)


def cosines(angles: np.ndarray) -> np.ndarray:
    """The cosine of each, as the C library has it and so PyTorch's schedulers: NumPy's may be the neighbour."""
    return np.array([math.cos(angle) for angle in angles.tolist()], float)


@dataclass(frozen=True)
class WarmRestarts(Schedule):
    """Half a cosine from `peak` down to `final` within `epochs`, again and again, each `growth` times as long.

    At `s` updates after the start of a cycle of `n`:

        value = final + (peak - final) (1 + cos(pi s/n))/2

    Parameters
    ----------
    peak, final : float
        Finite, >= 0.
    epochs : float
        Of the first cycle, > 0; need not be whole.
    growth : int
        >= 1.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    Notes
    -----
    PyTorch's `CosineAnnealingWarmRestarts`.

    References
    ----------
    I. Loshchilov, F. Hutter, ICLR 2017.

    Examples
    --------
    >>> WarmRestarts(1.0, epochs=1, growth=2).values(np.arange(7), Progress(2, 100)).round(2)
    array([1.  , 0.5 , 1.  , 0.85, 0.5 , 0.15, 1.  ])
    """

    foreseeable = True
    peak: float
    epochs: float
    growth: int = 1
    final: float = 0.0

    def __post_init__(self) -> None:
        with prefixed("WarmRestarts"):
            number("peak", self.peak)
            number("epochs", self.epochs, low_open=True)
            whole("growth", self.growth)
            number("final", self.final)

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        first = self.epochs * progress.updates
        if self.growth == 1:
            since, length = t % first, np.full(t.shape, first)
        else:
            starts, lengths = [0.0], [first]
            while starts[-1] + lengths[-1] <= t.max(initial=0):
                starts.append(starts[-1] + lengths[-1])
                lengths.append(lengths[-1] * self.growth)
            cycle = np.searchsorted(starts, t, side="right") - 1
            since, length = t - np.array(starts)[cycle], np.array(lengths)[cycle]
        return self.final + (self.peak - self.final) * (1 + cosines(math.pi * since / length)) / 2


@dataclass(frozen=True)
class OneCycle(Schedule):
    """From `initial` up to `peak` within a `share` of `epochs`, then down to `final` at their last update, and on.

    By half a cosine each way, or in lines.  Of a momentum, which falls while the rate rises, `peak` is the lowest:
    `OneCycle(0.85, epochs, initial=0.95, final=0.95)`.

    Parameters
    ----------
    peak : float
        Finite, >= 0.
    epochs : float
        > 0; need not be whole.
    share : float
        From 0 to 1, with `three_phases` to 1/2.
    initial, final : float, optional
        Finite, >= 0; by default `peak/25` and `initial/10^4`.
    anneal : {"cosine", "linear"}
    three_phases : bool
        As long down to `initial`, and then to `final`.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    Notes
    -----
    PyTorch's `OneCycleLR`, whose `cycle_momentum` is that schedule of the momentum.

    References
    ----------
    L. N. Smith, N. Topin, arXiv:1708.07120.

    Examples
    --------
    >>> OneCycle(1.0, epochs=2, share=0.5).values(np.arange(10), Progress(5, 100)).round(2)
    array([0.04, 0.18, 0.52, 0.86, 1.  , 0.9 , 0.65, 0.35, 0.1 , 0.  ])
    """

    foreseeable = True
    peak: float
    epochs: float
    share: float = 0.3
    initial: float | None = None
    final: float | None = None
    anneal: str = "cosine"
    three_phases: bool = False

    def __post_init__(self) -> None:
        with prefixed("OneCycle"):
            number("peak", self.peak)
            number("epochs", self.epochs, low_open=True)
            number("share", self.share, high=0.5 if flag("three_phases", self.three_phases) else 1.0)
            for name, x in (("initial", self.initial), ("final", self.final)):
                if x is not None:
                    number(name, x)
            choice("anneal", self.anneal, ("cosine", "linear"))

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        total = self.epochs * progress.updates
        rise = self.share * total
        initial = self.peak / 25.0 if self.initial is None else self.initial
        final = initial / 1e4 if self.final is None else self.final
        ends, levels = [rise - 1, total - 1], [initial, self.peak, final]
        if self.three_phases:
            ends, levels = [rise - 1, 2 * rise - 2, total - 1], [initial, self.peak, initial, final]
        starts = [0.0, *ends[:-1]]
        phase = np.searchsorted(ends[:-1], t)
        start, end = np.array(starts)[phase], np.array(ends)[phase]
        # A phase without updates is over: what follows it begins at its end.
        share = np.clip((t - start) / np.where(end > start, end - start, 1.0), 0.0, 1.0)
        share = np.where(end > start, share, 1.0)
        low, high = np.array(levels)[phase], np.array(levels)[phase + 1]
        if self.anneal == "linear":
            return np.asarray((high - low) * share + low)
        return np.asarray(high + (low - high) / 2.0 * (cosines(math.pi * share) + 1))
