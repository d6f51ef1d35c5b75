"""A batch: the order of the rows, their gathering, and how many of a batch's outputs are right or how far off."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels.jit import kernel
from ...kernels.linking import Interface, Linked, linked
from ...kernels.pointers import pointer_at
from ...kernels.rounding import mul
from ...kernels.template import template
from ..dropout import splitmix
from ..losses import LOSSES

_SHUFFLE = np.uint64(1 << 63)
MEASURES = 3  # of each row: is it right, the sum of the absolute errors, that of their squares


@template
def gather_inputs(SOURCE, T):
    """Row `order[i]` of X, times `scale`, becomes row i of `x`, for i from `first` to below `last`."""

    def gather_inputs(X, order, first, last, inputs, x, scale):
        data, factor = pointer_at(X, SOURCE), T(scale)
        for i in range(first, last):
            row, place = order[i] * inputs, i * inputs
            for q in range(inputs):
                x[place + q] = mul(T(data[row + q]), factor)

    return gather_inputs


@template
def gather_targets(T):
    """The same of the targets, with `outputs` numbers in a row."""

    def gather_targets(y, order, first, last, outputs, targets):
        data, place = pointer_at(y, T), pointer_at(targets, T)
        for i in range(first, last):
            for q in range(outputs):
                place[i * outputs + q] = data[order[i] * outputs + q]

    return gather_targets


@template
def measure_labels():
    """Is the largest output that of the label?  For rows `first` to below `last`."""

    def measure_labels(z, targets, measures, first, last, outputs):
        labels = pointer_at(targets, np.int64)
        for i in range(first, last):
            row, best = i * outputs, 0
            for j in range(1, outputs):
                best = j if z[row + j] > z[row + best] else best
            measures[MEASURES * i] = 1.0 if best == labels[i] else 0.0

    return measure_labels


@template
def measure_probabilities(T):
    """Is the largest output that of the most probable class?  For rows `first` to below `last`."""

    def measure_probabilities(z, targets, measures, first, last, outputs):
        t = pointer_at(targets, T)
        for i in range(first, last):
            row, best, label = i * outputs, 0, 0
            for j in range(1, outputs):
                best = j if z[row + j] > z[row + best] else best
                label = j if t[row + j] > t[row + label] else label
            measures[MEASURES * i] = 1.0 if best == label else 0.0

    return measure_probabilities


@template
def measure_elements(BINARY, T):
    """Right ones (logits with the right sign, else the largest output where the largest target is); errors."""

    def measure_elements(z, targets, measures, first, last, outputs):
        t = pointer_at(targets, T)
        for i in range(first, last):
            row = i * outputs
            hits, absolute, square, best, label = 0.0, 0.0, 0.0, 0, 0
            for j in range(outputs):
                error = np.float64(z[row + j]) - np.float64(t[row + j])
                absolute += abs(error)
                square += error * error
                hits += 1.0 if (z[row + j] > 0) == (t[row + j] > 0.5) else 0.0
                best = j if z[row + j] > z[row + best] else best
                label = j if t[row + j] > t[row + label] else label
            measures[MEASURES * i] = hits if BINARY else 1.0 if best == label else 0.0
            measures[MEASURES * i + 1], measures[MEASURES * i + 2] = absolute, square

    return measure_elements


_n, _order, _real = types.int64, types.CPointer(types.int64), types.CPointer(types.float64)
GATHER_TARGETS = Interface(types.void(_n, _order, _n, _n, _n, _n))


@functools.cache
def inputs_interface(dtype: str) -> Interface:
    """The address of X, order, first, last, inputs, x, scale."""
    x = types.CPointer(from_dtype(np.dtype(dtype)))
    return Interface(types.void(_n, _order, _n, _n, _n, x, types.float64))


@functools.cache
def measure_interface(dtype: str) -> Interface:
    """z, the address of the targets, measures, first, last, outputs."""
    return Interface(types.void(types.CPointer(from_dtype(np.dtype(dtype))), _n, _real, _n, _n, _n))


@functools.cache
def inputs_function(dtype: str, source: str) -> Linked:
    """What gathers rows of data of dtype `source`."""
    bound = gather_inputs.bind(SOURCE=np.dtype(source).type, T=np.dtype(dtype).type)
    return linked(bound, inputs_interface(dtype))


@functools.cache
def targets_function(dtype: str) -> Linked:
    """What gathers targets of this dtype: int64 for labels, one a row."""
    return linked(gather_targets.bind(T=np.dtype(dtype).type), GATHER_TARGETS)


@functools.cache
def measure_function(dtype: str, loss: str) -> Linked:
    """What measures the outputs of a network with this loss."""
    chosen: Any = LOSSES[loss]
    if chosen.labels:
        return linked(measure_labels.bind(), measure_interface(dtype))
    if chosen.coupled:
        return linked(measure_probabilities.bind(T=np.dtype(dtype).type), measure_interface(dtype))
    return linked(measure_elements.bind(BINARY=chosen.binary, T=np.dtype(dtype).type), measure_interface(dtype))


def shuffle(orders, rows, seeds, epoch):
    """Each of `orders` becomes a permutation of `rows`, a function of its seed and the epoch (Fisher and Yates)."""
    half = np.uint64(32)
    for m in range(seeds.size):
        key, order = splitmix(splitmix(seeds[m], _SHUFFLE), epoch), orders[m]
        for i in range(order.size):
            order[i] = rows[i]
        for i in range(order.size - 1, 0, -1):
            # A number below i + 1 from the upper 32 bits: fewer than 2^32 rows are needed.
            k = np.int64(((splitmix(key, i) >> half) * np.uint64(i + 1)) >> half)
            order[i], order[k] = order[k], order[i]


@functools.cache
def shuffle_kernel() -> Any:
    """`shuffle`, for rows of int64 and seeds of uint64."""
    rows, seeds = (types.Array(kind, 1, "C", readonly=True) for kind in (types.int64, types.uint64))
    return kernel(shuffle, types.void(types.int64[:, ::1], rows, seeds, types.uint64))
