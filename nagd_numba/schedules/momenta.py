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
    """Sutskever's momentum, which rises in steps of 250 updates, up to `most`.

        momentum = min(1 - 2^(-1 - log2(floor(t/250) + 1)), most)

    Parameters
    ----------
    most : float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        For what is out of its range.

    References
    ----------
    I. Sutskever et al., ICML 2013, equation 5.

    Examples
    --------
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
    """FISTA's momentum, at update `k`; 0 at update 0.

        momentum = (t_k - 1)/t_{k+1};    t_1 = 1,    t_{k+1} = (1 + sqrt(1 + 4 t_k^2))/2

    References
    ----------
    A. Beck, M. Teboulle, SIAM J. Imaging Sci. 2 (2009).

    Examples
    --------
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
