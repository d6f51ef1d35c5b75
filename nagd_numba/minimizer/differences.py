"""Central differences with an estimate of their error, for `check_grad`.

One component at a time, from the values at `x ± h` and `x ± 2h`:

    D(h) = (f(x + h) - f(x - h)) / 2h;    d = (4 D(h) - D(2h)) / 3;    u = |D(2h) - D(h)| + 4 e / h

where `e` is what rounding, and noise, do to a value of `f`.  Where `u` is too large, or what is compared with `d` lies
outside, other steps are tried, and that with the least `u` (relative to `d`, if that is small for any) is taken: finer
ones, each an eighth of the last, while `|D(2h) - D(h)|` is the larger part of `u`; if none is better, coarser ones.

The noise is estimated from the sixth differences of eight values so close to each other that a smooth function has
none (J. Moré, S. Wild, SIAM J. Sci. Comput. 33 (2011) 1292).  Values that are all numbers of float32 have its rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

CLOSE = 2.0**-30  # the distance of the values for the noise, relative to |x_i|
ORDER, POINTS = 6, 8
RATIO = 8.0
RESOLVED = 0.1  # relative
WIDEST = 0.25  # of steps, relative to max(1, |x_i|)
FINEST = 2.0**-21, 2.0**-44  # relative to |x_i|, where functions in float32 are flat between its numbers; to 1


class Difference(NamedTuple):
    """A derivative by differences, how far from the true one it may be, roughly the second derivative, the step."""

    slope: float
    error: float
    curvature: float
    step: float

    @property
    def rank(self) -> tuple[bool, float]:
        """The less the better: first what resolves the derivative, since waves shorter than the step average to 0."""
        resolved = self.error <= RESOLVED * abs(self.slope)
        return not resolved, self.error / abs(self.slope) if resolved and self.slope != 0.0 else self.error


class Differences:
    """Of the function `value` at `x`."""

    def __init__(self, value: Callable[[np.ndarray], float], x: np.ndarray) -> None:
        self._value, self._x = value, x
        self.middle = self._at(x)
        directions = np.random.default_rng(0).uniform(-1.0, 1.0, x.size) * np.where(x == 0.0, 1.0, np.abs(x))
        near = np.array([self._at(x + k * CLOSE * directions) for k in range(POINTS)])
        near = near[np.isfinite(near)]
        size = float(np.abs(near).max(initial=0.0))
        with np.errstate(all="ignore"):
            single = bool((near.astype(np.float32) == near).all())
        self.rounding = float(np.finfo(np.float32 if single else np.float64).eps)
        self._noise = self.rounding * size
        if near.size == POINTS:
            sixth = np.diff(near, ORDER)
            usual = math.comb(2 * ORDER, ORDER)  # the variance of a sixth difference, for noise of variance 1
            self._noise = max(self._noise, 2.0 * math.sqrt(float(np.mean(sixth**2)) / usual))
        relative = self._noise / size if size > 0.0 else self.rounding
        self._step = min(max(relative, self.rounding) ** (1 / 3), WIDEST)

    def component(self, i: int, enough: Callable[[float, float], bool]) -> Difference:
        """The derivative by `x[i]`; `enough(slope, error)` tells whether no other step need be tried."""
        size = max(1.0, abs(self._x[i]))
        usual = self._step * size
        made, coarse = self._with_step(i, usual)
        if enough(made.slope, made.error):
            return made
        tried, h = [made], usual / RATIO
        while coarse and h >= max(FINEST[0] * abs(self._x[i]), FINEST[1]):
            found, coarse = self._with_step(i, h)
            tried.append(found)
            h /= RATIO
        h = usual * RATIO
        if min(found.rank for found in tried) == made.rank:  # none was better
            while h <= WIDEST * size:
                tried.append(self._with_step(i, h)[0])
                if tried[-1].rank >= min(found.rank for found in tried[:-1]):
                    break
                h *= RATIO
        tried.sort(key=lambda found: found.step)
        k = min(range(len(tried)), key=lambda k: tried[k].rank)
        best = tried[k]
        for other in (*tried[max(k - 1, 0) : k], *tried[k + 1 : k + 2]):
            apart = abs(best.slope - other.slope)
            if apart > best.error + other.error:  # that its own two agreed was chance
                best = best._replace(error=apart)
        return best

    def _with_step(self, i: int, h: float) -> tuple[Difference, bool]:
        """The difference with the step `h`; and is that rather too coarse than too fine?"""
        slopes, values = [], []
        for factor in (1.0, 2.0):
            above, below = self._x.copy(), self._x.copy()
            above[i] += factor * h
            below[i] -= factor * h
            ends = self._at(above), self._at(below)
            values.append(ends)
            width = above[i] - below[i]
            slopes.append((ends[0] - ends[1]) / width if width > 0.0 else math.nan)
        truncation, rounding = abs(slopes[1] - slopes[0]), 4.0 * self._noise / h
        if not math.isfinite(truncation):
            return Difference(math.nan, math.inf, 0.0, h), True
        curvature = abs(values[0][0] - 2.0 * self.middle + values[0][1]) / h**2
        slope = slopes[0] + (slopes[0] - slopes[1]) / 3.0
        return Difference(slope, truncation + rounding, curvature, h), truncation > rounding

    def _at(self, x: np.ndarray) -> float:
        """NaN where the function raises what functions of numbers raise outside their domain."""
        try:
            with np.errstate(all="ignore"):
                return float(self._value(x))
        except (ArithmeticError, ValueError):
            return math.nan
