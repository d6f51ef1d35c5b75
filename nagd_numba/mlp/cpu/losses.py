"""The output layer's passes: losses and their slopes, probabilities, penalties; loops that LLVM vectorises.

Templates, bound to one loss by `bindings.py`.  `z` and `delta` are contiguous matrices with one sample a row.
`losses` takes the loss of each row in float64; its order of summation is the caller's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...kernels.mathfuncs import sigmoid
from ...kernels.rounding import add, div, fma, mul
from ..losses import softmax_loss, softmax_slope, softmax_term

# Bound when a pass is compiled.
loss_value: Any = None
loss_slope: Any = None
BINARY: Any = None

LANES = 64  # sums of squares are formed in so many independent chains


def sum_of_squares(x, first, last, lanes):
    """The sum of `x[first:last]^2` in float64, in a fixed order; `lanes` is a vector of LANES float64."""
    for e in range(LANES):
        lanes[e] = 0.0
    whole = first + (last - first) // LANES * LANES
    for i in range(first, whole, LANES):
        for e in range(LANES):
            value = np.float64(x[i + e])
            lanes[e] = fma(value, value, lanes[e])
    for i in range(whole, last):
        value = np.float64(x[i])
        lanes[i - whole] = fma(value, value, lanes[i - whole])
    total = 0.0
    for e in range(LANES):
        total = add(total, lanes[e])
    return total


def penalty(params, sizes, l2, lanes):
    """`l2/2` times the sum of the squared weights."""
    squares, start = 0.0, 0
    for layer in range(sizes.size - 1):
        end = start + sizes[layer] * sizes[layer + 1]
        squares += sum_of_squares(params, start, end, lanes)
        start = end + sizes[layer + 1]
    return 0.5 * l2 * squares


def labels_allowed(y, classes):
    """The first row whose label is out of range, or -1."""
    for i in range(y.size):
        if y[i] < 0 or y[i] >= classes:
            return i
    return -1


def targets_allowed(y, outputs):
    """The first row with a target other than 0 and 1, where only these are allowed, or -1."""
    if BINARY:
        for i in range(y.shape[0]):
            for j in range(outputs):
                if y[i, j] != 0 and y[i, j] != 1:
                    return i
    return -1


def cross_entropy_output(z, y, delta, losses, factor):
    """Each row's `-log softmax(z)[y]`, and `factor (softmax(z) - onehot(y))` in `delta`; `z` is overwritten."""
    shift_rows(z)
    exponentials(z, delta)
    normalise(z, y, delta, losses, factor)


def shift_rows(z):
    """Subtract from each row its largest element."""
    for i in range(z.shape[0]):
        largest = z[i, 0]
        for j in range(1, z.shape[1]):
            largest = z[i, j] if z[i, j] > largest else largest
        for j in range(z.shape[1]):
            z[i, j] = add(z[i, j], -largest)


def exponentials(z, out):
    """`out = e^z`, in one long loop."""
    a, b = z.reshape(z.size), out.reshape(out.size)
    for i in range(a.size):
        b[i] = softmax_term(a[i], b.dtype.type(0))


def normalise(z, y, delta, losses, factor):
    """The losses, from the shifted logits `z` and their exponentials in `delta`, which becomes the slope."""
    T = z.dtype.type
    for i in range(z.shape[0]):
        terms = T(0)
        for j in range(z.shape[1]):
            terms = add(terms, delta[i, j])
        inverse = div(T(1), terms)
        losses[i] = np.float64(softmax_loss(z[i, y[i]], T(0), terms))
        at_label = softmax_slope(delta[i, y[i]], inverse, T(1), factor)
        for j in range(z.shape[1]):
            delta[i, j] = softmax_slope(delta[i, j], inverse, T(0), factor)
        delta[i, y[i]] = at_label


def softmax_rows(z):
    """`softmax(z)` of each row, in place."""
    shift_rows(z)
    exponentials(z, z)
    for i in range(z.shape[0]):
        terms = z.dtype.type(0)
        for j in range(z.shape[1]):
            terms = add(terms, z[i, j])
        inverse = div(z.dtype.type(1), terms)
        for j in range(z.shape[1]):
            z[i, j] = mul(z[i, j], inverse)


def sigmoids(z):
    """`1/(1 + e^-z)` of each element, in place."""
    a = z.reshape(z.size)
    for i in range(a.size):
        a[i] = sigmoid(a[i])


def element_output(z, y, delta, losses, factor):
    """Each row's sum of a loss of elements, and its slope times `factor` in `delta`; `z` is overwritten."""
    element_pass(z, y, delta, factor)
    for i in range(z.shape[0]):
        total = 0.0
        for j in range(z.shape[1]):
            total += np.float64(z[i, j])
        losses[i] = total


def element_pass(z, y, delta, factor):
    """Each element's loss in `z`, its slope times `factor` in `delta`."""
    a, t, d = z.reshape(z.size), y.reshape(y.size), delta.reshape(delta.size)
    for i in range(a.size):
        d[i] = mul(loss_slope(a[i], t[i]), factor)
        a[i] = loss_value(a[i], t[i])


def weigh(delta, losses, weights):
    """Multiply each row by its sample's weight."""
    for i in range(delta.shape[0]):
        losses[i] *= np.float64(weights[i])
        for j in range(delta.shape[1]):
            delta[i, j] = mul(delta[i, j], weights[i])
