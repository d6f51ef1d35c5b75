"""What a schedule is, and schedules that are made of others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..validation import number, prefixed, real, whole


@dataclass(frozen=True)
class Progress:
    """What training has reached: what a schedule is told beside the numbers of the updates.

    Parameters
    ----------
    updates, samples : int
        In an epoch, >= 1.
    losses : sequence of float
        Of the training, one for each epoch so far.
    validation_losses : sequence of float, optional
        Of the validation data; None without such data.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    Examples
    --------
    >>> progress = Progress(updates=10, samples=320, losses=[0.9, 0.5])
    >>> progress.watched
    [0.9, 0.5]
    """

    updates: int
    samples: int
    losses: Iterable[float] = ()
    validation_losses: Iterable[float] | None = None

    def __post_init__(self) -> None:
        with prefixed("Progress"):
            whole("updates", self.updates)
            whole("samples", self.samples)

    @property
    def watched(self) -> Iterable[float]:
        """The losses that decide: of the validation data, or without them of the training."""
        return self.losses if self.validation_losses is None else self.validation_losses


class Schedule:
    """The base of all schedules: `values(t, progress)` for an array `t` of updates.

    With `foreseeable = True` the values depend on nothing but `t`, `progress.updates` and `progress.samples`, whenever
    they are asked for: training on a device then asks for those of an epoch before the last has ended.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Halved(Schedule):
    ...     foreseeable = True
    ...
    ...     def values(self, t, progress):
    ...         return 0.5 ** (t // progress.updates)
    >>> Halved().values(np.array([0, 10, 20]), Progress(updates=10, samples=100))
    array([1.  , 0.5 , 0.25])
    """

    foreseeable = False

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The value at each update in `t` (int64, counted from 0 over all epochs), as float64."""
        raise NotImplementedError

    def ended(self, progress: Progress) -> bool:
        """Has the schedule come to an end, and training with it?"""
        return False

    def then(self, other: Any, epochs: float) -> Schedule:
        """The schedule for so many epochs, then the other, which counts updates, epochs and losses from there.

        `other` is a number, a schedule or a function of the number of the update; `epochs` is > 0, and whole where one
        of the two may look at losses (all but those of this package that follow a formula).  PyTorch's `SequentialLR`.

        >>> Constant(0.5).then(Constant(0.25), 2).values(np.array([0, 19, 20]), Progress(10, 100))
        array([0.5 , 0.5 , 0.25])
        """
        with prefixed("Schedule.then"):
            return Then(self, as_schedule("other", other), epochs)

    def times(self, other: Any) -> Schedule:
        """The product with a number, a schedule or a function of the number of the update.

        PyTorch's `LambdaLR`, or its `ChainedScheduler` of such that multiply.

        >>> Constant(0.5).times(lambda t: t % 2).values(np.arange(3), Progress(10, 100))
        array([0. , 0.5, 0. ])
        """
        with prefixed("Schedule.times"):
            return Times(self, as_schedule("other", other))

    def clamp(self, low: float = 0.0, high: float = math.inf) -> Schedule:
        """The schedule, but never below `low` nor above `high`; 0 <= `low` <= `high`.

        >>> Constant(0.5).times(lambda t: t).clamp(0.25, 1).values(np.arange(4), Progress(10, 100))
        array([0.25, 0.5 , 1.  , 1.  ])
        """
        with prefixed("Schedule.clamp"):
            return Clamp(self, low, high)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value at every update.

    Parameters
    ----------
    value : float
        Finite, >= 0.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    Examples
    --------
    >>> Constant(0.1).values(np.arange(3), Progress(10, 100))
    array([0.1, 0.1, 0.1])
    """

    foreseeable = True
    value: float

    def __post_init__(self) -> None:
        with prefixed("Constant"):
            number("value", self.value)

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        return np.full(t.shape, float(self.value))


@dataclass(frozen=True, repr=False)
class Then(Schedule):
    """See `Schedule.then`."""

    first: Schedule
    second: Schedule
    epochs: float

    def __post_init__(self) -> None:
        number("epochs", self.epochs, low_open=True)
        if not self.foreseeable and self.epochs != math.floor(self.epochs):
            told = next(x for x in (self.first, self.second) if not x.foreseeable)
            raise ValueError(
                f"epochs is {self.epochs!r}, and {told!r} may look at the losses of whole epochs; "
                f"a whole number is needed"
            )

    def __repr__(self) -> str:
        return f"{self.first!r}.then({self.second!r}, {self.epochs!r})"

    @property
    def foreseeable(self) -> bool:  # type: ignore[override]
        """Whether both parts are."""
        return self.first.foreseeable and self.second.foreseeable

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        switch = math.ceil(self.epochs * progress.updates)
        before, made = t < switch, np.empty(t.shape)
        if before.any():
            made[before] = self.first.values(t[before], progress)
        if not before.all():
            made[~before] = self.second.values(t[~before] - switch, self._since(progress))
        return made

    def ended(self, progress: Progress) -> bool:
        """Whether this schedule wants the training to end."""
        if len(list(progress.losses)) <= self.epochs:
            return self.first.ended(progress)
        return self.second.ended(self._since(progress))

    def _since(self, progress: Progress) -> Progress:
        """What was reached since the first ended; functions of the update alone need no losses."""
        if self.foreseeable:
            return progress
        epochs = int(self.epochs)
        held_out = progress.validation_losses
        return dataclasses.replace(
            progress,
            losses=[*progress.losses][epochs:],
            validation_losses=None if held_out is None else [*held_out][epochs:],
        )


@dataclass(frozen=True, repr=False)
class Times(Schedule):
    """See `Schedule.times`."""

    first: Schedule
    second: Schedule

    def __repr__(self) -> str:
        return f"{self.first!r}.times({self.second!r})"

    @property
    def foreseeable(self) -> bool:  # type: ignore[override]
        """Whether both parts are."""
        return self.first.foreseeable and self.second.foreseeable

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        both: np.ndarray = self.first.values(t, progress) * self.second.values(t, progress)
        return both

    def ended(self, progress: Progress) -> bool:
        """Whether this schedule wants the training to end."""
        return self.first.ended(progress) or self.second.ended(progress)


@dataclass(frozen=True, repr=False)
class Clamp(Schedule):
    """See `Schedule.clamp`."""

    schedule: Schedule
    low: float
    high: float

    def __post_init__(self) -> None:
        number("low", self.low)
        number("high", self.high, finite=False)
        if self.low > self.high:
            raise ValueError(f"low is {self.low!r} and high {self.high!r}; low <= high is needed")

    def __repr__(self) -> str:
        high = "" if self.high == math.inf else f", {self.high!r}"
        return f"{self.schedule!r}.clamp({self.low!r}{high})"

    @property
    def foreseeable(self) -> bool:  # type: ignore[override]
        """Whether the schedule within is."""
        return self.schedule.foreseeable

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        """The values of the updates `t`, an array of the same shape."""
        clipped: np.ndarray = np.clip(self.schedule.values(t, progress), self.low, self.high)
        return clipped

    def ended(self, progress: Progress) -> bool:
        """Whether this schedule wants the training to end."""
        return self.schedule.ended(progress)


@dataclass(frozen=True)
class _Function(Schedule):
    """A function of the user's, and what it is called in messages."""

    name: str
    function: Callable[[int], float]

    def values(self, t: np.ndarray, progress: Progress) -> np.ndarray:
        return np.array([real(f"{self.name}({update})", self.function(int(update))) for update in t], float)


def as_schedule(name: str, x: Any) -> Schedule:
    """A number, a schedule, or a function of the update's number, as a schedule.

    Parameters
    ----------
    name : str
        What an error calls it.
    x : float, Schedule, or function
        A number is >= 0; a function `f(t)` gets the number of the update, an int from 0 on.

    Returns
    -------
    Schedule

    Raises
    ------
    TypeError, ValueError
        For anything else.

    Examples
    --------
    >>> as_schedule("lr", lambda t: 1 / (1 + t)).values(np.arange(3), Progress(10, 100)).round(3)
    array([1.   , 0.5  , 0.333])
    """
    if isinstance(x, Schedule):
        return x
    if isinstance(x, type) and issubclass(x, Schedule):
        raise TypeError(f"{name} is the class {x.__name__}; an instance is needed: {x.__name__}(...)")
    if callable(x):
        return _Function(name, x)
    return Constant(number(name, x))
