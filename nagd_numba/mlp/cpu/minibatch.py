"""A batch: its rows gathered from the data, and how many of its outputs are right or how far off."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...kernels.rounding import mul

BINARY: Any = None  # bound when compiled


def gather_rows(X, order, begin, first, last, x, scale):
    """Rows `order[begin + first : begin + last]` of X, times `scale`, into the batch `x`."""
    T = x.dtype.type
    inputs, factor = X.shape[1], T(scale)
    for i in range(first, last):
        row, place = X[order[begin + i]], x[i * inputs : (i + 1) * inputs]
        for q in range(inputs):
            place[q] = mul(T(row[q]), factor)


def gather_labels(y, order, begin, first, last, targets):
    for i in range(first, last):
        targets[i] = y[order[begin + i]]


def gather_matrix(y, order, begin, first, last, targets):
    for i in range(first, last):
        for q in range(y.shape[1]):
            targets[i, q] = y[order[begin + i], q]


def new_labels(y, rows):
    return np.empty(rows, y.dtype)


def new_matrix(y, rows):
    return np.empty((rows, y.shape[1]), y.dtype)


def measure_labels(z, labels, measures):
    """Is the largest output that of the label?"""
    for i in range(z.shape[0]):
        best = 0
        for j in range(1, z.shape[1]):
            best = j if z[i, j] > z[i, best] else best
        measures[i, 0] = 1.0 if best == labels[i] else 0.0


def measure_elements(z, targets, measures):
    """Right ones (logits with the right sign, else the largest output where the largest target is); errors."""
    for i in range(z.shape[0]):
        hits, absolute, square, best, label = 0.0, 0.0, 0.0, 0, 0
        for j in range(z.shape[1]):
            error = np.float64(z[i, j]) - np.float64(targets[i, j])
            absolute += abs(error)
            square += error * error
            hits += 1.0 if (z[i, j] > 0) == (targets[i, j] > 0.5) else 0.0
            best = j if z[i, j] > z[i, best] else best
            label = j if targets[i, j] > targets[i, label] else label
        measures[i, 0] = hits if BINARY else 1.0 if best == label else 0.0
        measures[i, 1], measures[i, 2] = absolute, square
