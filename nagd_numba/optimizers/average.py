"""Averages of the parameters, which a step updates in its pass.

With the parameters `p` after step k, counted from 1:

    a <- a + w_k (p - a)

    mean (Polyak and Ruppert)     w_k = 1/k                        a is the mean of p_1, ..., p_k
    exponential, with decay d     w_k = (1 - d)/(1 - d^k)          a is the weighted mean with weights d^(k-j)

The second is the exponential moving average that begins with zeros, divided by the sum of its weights, as Adam's
moments are: no bias is left to be corrected when it is read.  References: B. T. Polyak and A. B. Juditsky, SIAM J.
Control Optim. 30 (1992) 838.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validation
from ..flat import FlatParams
from ..kernels.jit import in_both


@in_both
def average_weight(k: int, decay: float | None = None) -> float:
    """The weight of the parameters in an average after step `k`, in Python and inside `@njit` functions.

        1/k for the mean, (1 - decay)/(1 - decay^k) with a decay

    Parameters
    ----------
    k : int
        The number of the step, from 1 on; 1 before it, where the average is the parameters themselves.
    decay : float, optional
        From 0 to below 1, for an exponential moving average; for others the weight is NaN, which no step takes.

    Returns
    -------
    float, what goes beside an array as `average=(array, weight)` of a step.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> from numba import njit
    >>> @njit
    ... def descend(params, grads, mean):
    ...     vel = np.zeros_like(params)
    ...     for k in range(1, 4):
    ...         weight = nagd_numba.average_weight(k)
    ...         nagd_numba.step(params, grads, vel, 1.0, 0.0, average=(mean, weight))
    >>> params, mean = np.zeros(2), np.zeros(2)
    >>> descend(params, np.array([-1.0, -2.0]), mean)
    >>> params, mean
    (array([3., 6.]), array([2., 4.]))
    """
    if k <= 1:
        return 1.0
    if decay is None:
        return 1.0 / k
    if not 0.0 <= decay < 1.0:
        return math.nan
    if decay == 0.0:
        return 1.0
    return -(1.0 - decay) / math.expm1(k * math.log(decay))


@dataclass
class Weighted:
    """An average that the caller keeps: `average=(value, weight)` of a step."""

    value: Any
    weight: float
    steps: int = 0


def average_of(given: Any) -> Average | Weighted | None:
    """What a step is given as `average=`."""
    if given is None or isinstance(given, Average):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        return Weighted(given[0], validation.real("average[1]", given[1]))
    raise TypeError(
        f"average is {validation.type_of(given)}; a nagd_numba.Average is needed, or a pair of an array and a weight"
    )


class Average:
    """An average of the parameters: `average=` of a step.

        a <- a + w (p - a)

    in the `k`-th step that counts, with the weight `w = 1/k` for the mean, and with a decay

        w = (1 - decay)/(1 - decay^k)

    Parameters
    ----------
    params : array, FlatParams, or list of arrays
        What is averaged: the average has its shape and dtype, float32 or float64, and memory of its own, on the host or
        on the same device.  Beside a master copy this is the average of it.
    decay : float, optional
        From 0 to below 1, for an exponential moving average.  Without it the average is the mean.
    start : int
        So many steps at first are not averaged: until then the average is the parameters themselves.

    Attributes
    ----------
    value : array, or list of arrays
        The average; modified in place by the steps.  NumPy's arrays on the host; on a device PyTorch's or CuPy's if the
        parameters are, else Numba's.
    steps : int
        The steps so far.

    Raises
    ------
    TypeError, ValueError
        For parameters that no step takes, a decay out of its range, a negative start.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> params, vel = np.zeros(2), np.zeros(2)
    >>> average = nagd_numba.Average(params)
    >>> for k in range(3):
    ...     _ = nagd_numba.step(params, np.array([-1.0, -2.0]), vel, lr=1.0, momentum=0.0, average=average)
    >>> params, average.value
    (array([3., 6.]), array([2., 4.]))
    >>> with average.swapped(params):
    ...     params
    array([2., 4.])
    """

    @validation.prefixed("Average")
    def __init__(self, params: Any, decay: float | None = None, start: int = 0) -> None:
        if decay is not None and not 0.0 <= validation.real("decay", decay) < 1.0:
            raise ValueError(f"decay is {validation.shown(decay)}; a finite number >= 0 and < 1 is needed, or None")
        self.decay = None if decay is None else float(decay)
        self.start = validation.whole("start", start, least=0)
        self.steps = 0
        params = params.flat if isinstance(params, FlatParams) else params
        lists = isinstance(params, list | tuple)
        named = [(f"params[{k}]", x) for k, x in enumerate(params)] if lists else [("params", params)]
        if validation.any_on_device(named):
            from ..gpu import exchange  # imports numba.cuda

            copies = [exchange.copied(name, x) for name, x in named]
        else:
            copies = [np.array(validation.host_array(name, x, write=False)) for name, x in named]
        self.value: Any = copies if lists else copies[0]

    def __repr__(self) -> str:
        kind = "mean" if self.decay is None else f"decay {self.decay:g}"
        return f"<Average, {kind}, {self.steps} steps>"

    @property
    def weight(self) -> float:
        """The weight of the parameters in the next step."""
        return average_weight(self.steps + 1 - self.start, self.decay)

    def weights(self, count: int) -> np.ndarray:
        """Those in the next steps, so many."""
        return np.array([average_weight(self.steps + k - self.start, self.decay) for k in range(1, count + 1)])

    @contextlib.contextmanager
    def swapped(self, params: Any) -> Iterator[Any]:
        """In the block the parameters are the average, and the average the parameters."""
        self.swap(params)
        try:
            yield params
        finally:
            self.swap(params)

    def swap(self, params: Any) -> None:
        """Exchange the parameters and the average, in place."""
        with validation.prefixed("swap"):
            params = params.flat if isinstance(params, FlatParams) else params
            own = self.value if isinstance(self.value, list) else [self.value]
            others = params if isinstance(params, list | tuple) else [params]
            if len(own) != len(others):
                raise TypeError(f"params are {len(others)} arrays, and the average is of {len(own)}")
            names = [f"params[{k}]" if isinstance(self.value, list) else "params" for k in range(len(own))]
            both = [*zip(names, others, strict=True), *(("the average", x) for x in own)]
            if validation.any_on_device(both):
                from ..gpu import exchange

                exchange.exchanged(list(zip(names, own, others, strict=True)))
                return
            pairs = []
            for name, mine, x in zip(names, own, others, strict=True):
                host = validation.host_array(name, x, write=True)
                validation.same_kind([("the average", mine), (name, host)])
                pairs.append((mine, host))
            for mine, host in pairs:
                kept = host.copy()
                host[...] = mine
                mine[...] = kept
            validation.tell_torch(*others)
