"""Momenta of theories."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from ..validation import number, prefixed
from .base import Progress, Schedule


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
        """The values of the updates `t`, an array of the same shape."""
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
        """The values of the updates `t`, an array of the same shape."""
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
