"""The output layer's passes: losses and their derivatives, probabilities; loops that LLVM vectorises.

`z` and `delta` point at matrices with one sample a row.  `losses` takes the loss of each row in float64; the order in
which they are added is the caller's.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels.jit import inlined
from ...kernels.linking import Interface, Linked, linked
from ...kernels.mathfuncs import log, sigmoid
from ...kernels.pointers import pointer, pointer_at
from ...kernels.rounding import add, div, mul
from ...kernels.template import template
from ..losses import LOSSES, SUM_TOLERANCE, soft_loss, softmax_derivative, softmax_loss, softmax_term


@inlined
def shift_rows(z, first, last, outputs):
    """Subtract from each row its largest element."""
    for i in range(first, last):
        row = i * outputs
        largest = z[row]
        for j in range(1, outputs):
            largest = z[row + j] if z[row + j] > largest else largest
        for j in range(outputs):
            z[row + j] = add(z[row + j], -largest)


@inlined
def exponentials(z, out, first, last):
    """`out = e^z`, in one long loop over elements `first` to below `last`."""
    for i in range(first, last):
        out[i] = softmax_term(z[i], type(z[i])(0))


@template
def cross_entropy(T):
    """`-log softmax(z)[y]` of rows `first` to below `last`, and `factor (softmax(z) - onehot(y))` in `delta`.

    `z` is overwritten.
    """

    def cross_entropy(z, targets, delta, losses, first, last, outputs, factor):
        y = pointer_at(targets, np.int64)
        shift_rows(z, first, last, outputs)
        exponentials(z, delta, first * outputs, last * outputs)
        for i in range(first, last):
            row = i * outputs
            label = row + y[i]
            terms = T(0)
            for j in range(outputs):
                terms = add(terms, delta[row + j])
            inverse = div(T(1), terms)
            losses[i] = np.float64(softmax_loss(z[label], T(0), terms))
            at_label = softmax_derivative(delta[label], inverse, T(1), factor)
            for j in range(outputs):
                delta[row + j] = softmax_derivative(delta[row + j], inverse, T(0), factor)
            delta[label] = at_label

    return cross_entropy


@template
def soft_cross_entropy(T):
    """The same with a probability for each class: `-sum_j y_j log softmax(z)_j`, `factor (softmax(z) - y)`.

    With probabilities of 0 and 1 it has the bits of labels.
    """

    def soft_cross_entropy(z, targets, delta, losses, first, last, outputs, factor):
        t = pointer_at(targets, T)
        shift_rows(z, first, last, outputs)
        exponentials(z, delta, first * outputs, last * outputs)
        for i in range(first, last):
            row = i * outputs
            terms = T(0)
            for j in range(outputs):
                terms = add(terms, delta[row + j])
            inverse, log_terms = div(T(1), terms), log(terms)
            total = 0.0
            for j in range(outputs):
                total += np.float64(soft_loss(z[row + j], t[row + j], log_terms))
            losses[i] = total
            for j in range(outputs):
                delta[row + j] = softmax_derivative(delta[row + j], inverse, t[row + j], factor)

    return soft_cross_entropy


@template
def element_loss(value, derivative, T):
    """The sums of a loss of elements in rows `first` to below `last`, and `factor` times its derivative in `delta`.

    `z` is overwritten.
    """

    def element_loss(z, targets, delta, losses, first, last, outputs, factor):
        t = pointer_at(targets, T)
        for i in range(first * outputs, last * outputs):
            delta[i] = mul(derivative(z[i], t[i]), factor)
            z[i] = value(z[i], t[i])
        for i in range(first, last):
            total = 0.0
            for j in range(outputs):
                total += np.float64(z[i * outputs + j])
            losses[i] = total

    return element_loss


@template
def softmax_rows(T):
    """`softmax(z)` of each row, in place."""

    def softmax_rows(matrix):
        rows, outputs = matrix.shape
        z = pointer(matrix)
        shift_rows(z, 0, rows, outputs)
        exponentials(z, z, 0, rows * outputs)
        for i in range(rows):
            row = i * outputs
            terms = T(0)
            for j in range(outputs):
                terms = add(terms, z[row + j])
            inverse = div(T(1), terms)
            for j in range(outputs):
                z[row + j] = mul(z[row + j], inverse)

    return softmax_rows


@template
def sigmoids():
    """`1/(1 + e^-z)` of each element, in place."""

    def sigmoids(matrix):
        z = pointer(matrix)
        for i in range(matrix.size):
            z[i] = sigmoid(z[i])

    return sigmoids


@template
def labels_allowed():
    """The first row whose label is out of range, or -1."""

    def labels_allowed(y, rows, outputs):
        for i in range(rows):
            if y[i] < 0 or y[i] >= outputs:
                return i
        return -1

    return labels_allowed


@template
def probabilities_allowed():
    """The first row with a probability below 0, or whose sum is not 1, or -1."""

    def probabilities_allowed(y, rows, outputs):
        for i in range(rows):
            total, negative = 0.0, False
            for j in range(i * outputs, (i + 1) * outputs):
                total += np.float64(y[j])
                negative = negative or y[j] < 0
            if negative or not abs(total - 1.0) <= SUM_TOLERANCE:
                return i
        return -1

    return probabilities_allowed


@template
def elements_allowed(BINARY):
    """The first row with a target other than 0 and 1, where only these are allowed, or -1."""

    def elements_allowed(y, rows, outputs):
        if BINARY:
            for i in range(rows * outputs):
                if y[i] != 0 and y[i] != 1:
                    return i // outputs
        return -1

    return elements_allowed


@functools.cache
def interface(dtype: str) -> Interface:
    """z, the address of the targets (int64 labels, or of the dtype), delta, losses, first, last, outputs, factor."""
    kind = from_dtype(np.dtype(dtype))
    x = types.CPointer(kind)
    losses = types.CPointer(types.float64)
    return Interface(types.void(x, types.int64, x, losses, types.int64, types.int64, types.int64, kind))


@functools.cache
def loss_function(dtype: str, loss: str) -> Linked:
    """The losses of all rows, and their derivatives with respect to `z`."""
    chosen, T = LOSSES[loss], np.dtype(dtype).type
    if chosen.labels:
        return linked(cross_entropy.bind(T=T), interface(dtype))
    if chosen.coupled:
        return linked(soft_cross_entropy.bind(T=T), interface(dtype))
    return linked(element_loss.bind(value=chosen.value, derivative=chosen.derivative, T=T), interface(dtype))


@functools.cache
def targets_interface(dtype: str, labels: bool) -> Interface:
    """y, rows, outputs; the first row of targets that the loss does not allow, or -1."""
    y = types.CPointer(types.int64 if labels else from_dtype(np.dtype(dtype)))
    return Interface(types.int64(y, types.int64, types.int64))


@functools.cache
def targets_function(dtype: str, loss: str) -> Linked:
    """What tells whether targets are allowed."""
    chosen = LOSSES[loss]
    interface = targets_interface(dtype, chosen.labels)
    if chosen.coupled:
        return linked((labels_allowed if chosen.labels else probabilities_allowed).bind(), interface)
    return linked(elements_allowed.bind(BINARY=chosen.binary), interface)


@functools.cache
def probability_kernel(dtype: str, loss: str) -> Linked:
    """`(z)`: softmax of each row, or the sigmoid of each element, in place."""
    made = softmax_rows.bind(T=np.dtype(dtype).type) if LOSSES[loss].labels else sigmoids.bind()
    interface = Interface(types.void(types.Array(from_dtype(np.dtype(dtype)), 2, "C")))
    return linked(made, interface, from_python=True)
