"""The kernel that changes the loss scale of a guard, after a step: one thread, by `kernels.loss_scale`."""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import types

from ..kernels.loss_scale import next_scale
from ..kernels.template import template
from .compiler import Kernel
from .guard_kernels import COUNT, FINITE_STEPS, SKIP
from .pointers import load, store


@functools.cache
def scale_kernel(exact: str) -> Kernel:
    """`rescale`, for a scale of the dtype `exact`."""
    scalar = getattr(types, exact)
    signature = (types.CPointer(types.float64), types.CPointer(scalar), types.float64, types.float64, types.int64)
    return Kernel(rescale.bind(SCALAR=scalar), f"guard_rescale_{exact}", signature, threads=1)


@template
def rescale(SCALAR):
    def rescale(control, place, factor, backoff, interval):
        """An unfit scale stays, and a step that was skipped for something else than its gradients counts nothing."""
        scale, bad = np.float64(load(place, 0)), load(control, COUNT) > 0.0
        if scale > 0.0 and scale < math.inf and (bad or load(control, SKIP) == 0.0):
            steps = np.int64(load(control, FINITE_STEPS))
            scale, steps = next_scale(scale, steps, bad, factor, backoff, interval, SCALAR)
            store(place, 0, SCALAR(scale))
            store(control, FINITE_STEPS, np.float64(steps))

    return rescale
