"""The passes between the matrix products: bias, activation, dropout, losses, sums, each a loop that LLVM vectorises.

Templates, like those of `cpu.py`, which binds the names below.  `z`, `delta` and `h` are contiguous matrices with one
sample a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..elementary import div, sigmoid
from ..rounding import add, fma, mul
from .cells import drop, drop_delta, softmax_loss, softmax_slope, softmax_term

# Bound by `cpu.py`: options, and the compiled forms of the functions below of the same name.
activate: Any = None
slope: Any = None
loss_value: Any = None
loss_slope: Any = None
DROPOUT: Any = None
BINARY: Any = None

ROWS_PER_BLOCK = 64  # column sums are formed in blocks: the rounding error grows with n/64 + 64 instead of n


def product(a, b, out):
    """`out = a b`."""
    np.dot(a, b, out)


def hidden_layer(z, biases, key, threshold, keep):
    """Biases, activation and dropout, in place."""
    scale = z.dtype.type(1.0 / keep)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            a = activate(add(z[i, j], biases[j]))
            if DROPOUT:
                a = drop(a, key, i * z.shape[1] + j, threshold, scale)
            z[i, j] = a


def output_layer(z, biases):
    """Biases, in place."""
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] = add(z[i, j], biases[j])


def hidden_delta(delta, h, key, threshold, keep):
    """Multiply by the derivative of activation and dropout, in place; `h` is their output."""
    T = delta.dtype.type
    scale, unscale = T(1.0 / keep), T(keep)
    for i in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            if DROPOUT:
                d = mul(delta[i, j], slope(mul(h[i, j], unscale)))
                delta[i, j] = drop_delta(d, key, i * delta.shape[1] + j, threshold, scale)
            else:
                delta[i, j] = mul(delta[i, j], slope(h[i, j]))


def column_sums(delta, out):
    """`out[j] = sum_i delta[i, j]`, in blocks of rows."""
    rows, columns = delta.shape
    block = np.empty(columns, delta.dtype)
    for j in range(columns):
        out[j] = 0
    for first in range(0, rows, ROWS_PER_BLOCK):
        for j in range(columns):
            block[j] = delta[first, j]
        for i in range(first + 1, min(first + ROWS_PER_BLOCK, rows)):
            for j in range(columns):
                block[j] = add(block[j], delta[i, j])
        for j in range(columns):
            out[j] = add(out[j], block[j])


def add_scaled(out, x, factor):
    """`out += factor x`."""
    T = out.dtype.type
    a, b, f = out.reshape(out.size), x.reshape(x.size), T(factor)
    for i in range(a.size):
        a[i] = fma(f, b[i], a[i])


def penalty(params, sizes, l2):
    """`l2/2` times the sum of the squared weights."""
    squares, start = 0.0, 0
    for layer in range(sizes.size - 1):
        end = start + sizes[layer] * sizes[layer + 1]
        weights = params[start:end]
        squares += np.float64(np.dot(weights, weights))
        start = end + sizes[layer + 1]
    return 0.5 * l2 * squares


def labels_allowed(y, classes):
    """The first row whose label is out of range, or -1."""
    for i in range(y.size):
        if y[i] < 0 or y[i] >= classes:
            return i
    return -1


def cross_entropy_output(z, y, delta):
    """The mean of `-log softmax(z)[y]`, and `(softmax(z) - onehot(y))/rows` in `delta`; `z` is overwritten."""
    bad = labels_allowed(y, z.shape[1])
    if bad >= 0:
        return 0.0, bad
    shift_rows(z)
    exponentials(z, delta)
    return normalise(z, y, delta), bad


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


def normalise(z, y, delta):
    """The mean loss, from the shifted logits `z` and their exponentials in `delta`, which becomes the slope."""
    T = z.dtype.type
    losses, factor = 0.0, T(1.0 / z.shape[0])
    for i in range(z.shape[0]):
        terms = T(0)
        for j in range(z.shape[1]):
            terms = add(terms, delta[i, j])
        inverse = div(T(1), terms)
        losses += np.float64(softmax_loss(z[i, y[i]], T(0), terms))
        at_label = softmax_slope(delta[i, y[i]], inverse, T(1), factor)
        for j in range(z.shape[1]):
            delta[i, j] = softmax_slope(delta[i, j], inverse, T(0), factor)
        delta[i, y[i]] = at_label
    return losses / z.shape[0]


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


def element_output(z, y, delta):
    """The mean over all elements of a loss, and its slope in `delta`; `z` is overwritten."""
    bad = targets_allowed(y)
    if bad >= 0:
        return 0.0, bad
    element_pass(z, y, delta)
    return total(z) / z.size, bad


def targets_allowed(y):
    """The first row with a target other than 0 and 1, where only these are allowed, or -1."""
    if BINARY:
        for i in range(y.shape[0]):
            for j in range(y.shape[1]):
                if y[i, j] != 0 and y[i, j] != 1:
                    return i
    return -1


def element_pass(z, y, delta):
    """Each element's loss in `z`, its slope over the number of elements in `delta`."""
    a, t, d = z.reshape(z.size), y.reshape(y.size), delta.reshape(delta.size)
    factor = z.dtype.type(1.0 / z.size)
    for i in range(a.size):
        d[i] = mul(loss_slope(a[i], t[i]), factor)
        a[i] = loss_value(a[i], t[i])


def total(x):
    """The sum of all elements, in float64."""
    sum_ = 0.0
    for v in x.reshape(x.size):
        sum_ += np.float64(v)
    return sum_
