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
from typing import Any

import numpy as np

from .. import validation

_KINDS = (*validation.DTYPES, np.dtype(np.complex64), np.dtype(np.complex128))


class Average:
    """An average of the parameters: `average=` of a step.

        a <- a + w (p - a)      w = 1/k for the mean, (1 - decay)/(1 - decay^k) with a decay, in the k-th step

    Parameters
    ----------
    params : array, FlatParams, or list of arrays
        What is averaged: the average has its shape and dtype, and memory of its own.  NumPy or PyTorch on the CPU.
    decay : float, optional
        From 0 to below 1, for an exponential moving average.  Without it the average is the mean.
    start : int
        So many steps at first are not averaged: until then the average is the parameters themselves.

    Attributes
    ----------
    value : array, or list of arrays
        The average; modified in place by the steps.
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
        params = getattr(params, "flat", params) if not isinstance(params, np.ndarray) else params
        lists = isinstance(params, list | tuple)
        named = [(f"params[{k}]", x) for k, x in enumerate(params)] if lists else [("params", params)]
        for name, x in named:
            if validation.is_device_array(x):
                raise TypeError(f"{name} is on a CUDA device, and an average is of host arrays")
        copies = [np.array(validation.host_array(name, x, write=False, dtypes=_KINDS)) for name, x in named]
        self.value: Any = copies if lists else copies[0]

    def __repr__(self) -> str:
        kind = "mean" if self.decay is None else f"decay {self.decay:g}"
        return f"<Average, {kind}, {self.steps} steps>"

    @property
    def weight(self) -> float:
        """The weight of the parameters in the next step."""
        return self._weight(self.steps + 1)

    def weights(self, count: int) -> np.ndarray:
        """Those in the next steps, so many."""
        return np.array([self._weight(self.steps + k) for k in range(1, count + 1)])

    def _weight(self, step: int) -> float:
        k = step - self.start
        if k <= 1:
            return 1.0
        if self.decay is None:
            return 1.0 / k
        if self.decay == 0.0:
            return 1.0
        return -(1.0 - self.decay) / math.expm1(k * math.log(self.decay))

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
            params = getattr(params, "flat", params) if not isinstance(params, np.ndarray) else params
            own = self.value if isinstance(self.value, list) else [self.value]
            others = params if isinstance(params, list | tuple) else [params]
            if len(own) != len(others):
                raise TypeError(f"params are {len(others)} arrays, and the average is of {len(own)}")
            pairs = []
            for k, (mine, x) in enumerate(zip(own, others, strict=True)):
                name = f"params[{k}]" if isinstance(self.value, list) else "params"
                host = validation.host_array(name, x, write=True, dtypes=_KINDS)
                validation.same_kind([("the average", mine), (name, host)])
                pairs.append((mine, host))
            for mine, host in pairs:
                kept = host.copy()
                host[...] = mine
                mine[...] = kept
            validation.tell_torch(*others)
