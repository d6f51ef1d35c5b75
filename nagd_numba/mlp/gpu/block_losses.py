"""The losses of a batch and their derivatives, by one thread block, in the order of the sums of the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numba.np.numpy_support import from_dtype

from ...gpu.compiler import device_function
from ...gpu.pointers import load, quotient, store
from ...kernels.mathfuncs import log
from ...kernels.rounding import add, div, mul
from ...kernels.template import template
from ..losses import LOSSES, soft_loss, softmax_derivative, softmax_loss, softmax_term


@functools.cache
def loss_pass(dtype: str, loss: str, measure: bool, weighted: bool) -> Callable:
    """The pass of a loss: see `cross_entropy` for its parameters."""
    chosen, scalar = LOSSES[loss], from_dtype(np.dtype(dtype))
    if chosen.labels:
        return device_function(cross_entropy.bind(SCALAR=scalar, MEASURE=measure, WEIGHTED=weighted))
    if chosen.coupled:
        return device_function(soft_cross_entropy.bind(SCALAR=scalar, MEASURE=measure, WEIGHTED=weighted))
    return device_function(
        element_losses.bind(
            SCALAR=scalar,
            MEASURE=measure,
            WEIGHTED=weighted,
            BINARY=chosen.binary,
            loss_value=chosen.value,
            loss_derivative=chosen.derivative,
        )
    )


@template
def cross_entropy(SCALAR, MEASURE, WEIGHTED):
    from ...gpu.target import cuda

    def cross_entropy(
        space,
        z,
        delta,
        scratch,
        pitch,
        y,
        weights,
        order,
        begin,
        rows,
        outputs,
        factor,
        losses,
        measures,
        thread,
        threads,
    ):
        """Derivatives to `delta`, each row's loss to `losses[begin + row]`; every thread of the block takes part.

        `z`, `delta`, and `scratch`, which has three elements for each row, are offsets in `space`; `z` is overwritten.
        """
        i = thread
        while i < rows:
            largest, best = load(space, z + i * pitch), 0
            for j in range(1, outputs):
                value = load(space, z + i * pitch + j)
                if value > load(space, z + i * pitch + best):
                    best = j
                largest = value if value > largest else largest
            store(space, scratch + 3 * i, largest)
            if MEASURE:
                store(measures, 3 * (begin + i), 1.0 if best == load(y, load(order, begin + i)) else 0.0)
            i += threads
        cuda.syncthreads()
        e = thread
        while e < rows * outputs:
            i = quotient(e, outputs)
            j = e - i * outputs
            at = i * pitch + j
            store(space, delta + at, softmax_term(load(space, z + at), load(space, scratch + 3 * i)))
            e += threads
        cuda.syncthreads()
        i = thread
        while i < rows:
            terms = SCALAR(0)
            for j in range(outputs):
                terms = add(terms, load(space, delta + i * pitch + j))
            store(space, scratch + 3 * i + 1, div(SCALAR(1), terms))
            label = load(y, load(order, begin + i))
            loss = softmax_loss(load(space, z + i * pitch + label), load(space, scratch + 3 * i), terms)
            store(losses, begin + i, np.float64(loss))
            i += threads
        cuda.syncthreads()
        e = thread
        while e < rows * outputs:
            i = quotient(e, outputs)
            j = e - i * outputs
            at, row = i * pitch + j, load(order, begin + i)
            target = SCALAR(1) if j == load(y, row) else SCALAR(0)
            derivative = softmax_derivative(load(space, delta + at), load(space, scratch + 3 * i + 1), target, factor)
            if WEIGHTED:
                derivative = mul(derivative, load(weights, row))
            store(space, delta + at, derivative)
            e += threads

    return cross_entropy


@template
def soft_cross_entropy(SCALAR, MEASURE, WEIGHTED):
    from ...gpu.target import cuda

    def soft_cross_entropy(
        space,
        z,
        delta,
        scratch,
        pitch,
        y,
        weights,
        order,
        begin,
        rows,
        outputs,
        factor,
        losses,
        measures,
        thread,
        threads,
    ):
        """The same with a probability for each class."""
        i = thread
        while i < rows:
            largest, best, label = load(space, z + i * pitch), 0, 0
            first = load(order, begin + i) * outputs
            for j in range(1, outputs):
                value = load(space, z + i * pitch + j)
                if value > load(space, z + i * pitch + best):
                    best = j
                largest = value if value > largest else largest
                label = j if load(y, first + j) > load(y, first + label) else label
            store(space, scratch + 3 * i, largest)
            if MEASURE:
                store(measures, 3 * (begin + i), 1.0 if best == label else 0.0)
            i += threads
        cuda.syncthreads()
        e = thread
        while e < rows * outputs:
            i = quotient(e, outputs)
            j = e - i * outputs
            at = i * pitch + j
            shifted = add(load(space, z + at), -load(space, scratch + 3 * i))
            store(space, z + at, shifted)
            store(space, delta + at, softmax_term(shifted, SCALAR(0)))
            e += threads
        cuda.syncthreads()
        i = thread
        while i < rows:
            terms = SCALAR(0)
            for j in range(outputs):
                terms = add(terms, load(space, delta + i * pitch + j))
            store(space, scratch + 3 * i + 1, div(SCALAR(1), terms))
            total, log_terms, first = 0.0, log(terms), load(order, begin + i) * outputs
            for j in range(outputs):
                total += np.float64(soft_loss(load(space, z + i * pitch + j), load(y, first + j), log_terms))
            store(losses, begin + i, total)
            i += threads
        cuda.syncthreads()
        e = thread
        while e < rows * outputs:
            i = quotient(e, outputs)
            j = e - i * outputs
            at, row = i * pitch + j, load(order, begin + i)
            target = load(y, row * outputs + j)
            derivative = softmax_derivative(load(space, delta + at), load(space, scratch + 3 * i + 1), target, factor)
            if WEIGHTED:
                derivative = mul(derivative, load(weights, row))
            store(space, delta + at, derivative)
            e += threads

    return soft_cross_entropy


@template
def element_losses(SCALAR, MEASURE, WEIGHTED, BINARY, loss_value, loss_derivative):
    from ...gpu.target import cuda

    def element_losses(
        space,
        z,
        delta,
        scratch,
        pitch,
        y,
        weights,
        order,
        begin,
        rows,
        outputs,
        factor,
        losses,
        measures,
        thread,
        threads,
    ):
        """The same for losses that are sums over elements."""
        if MEASURE:
            i = thread
            while i < rows:
                hits, absolute, square, best, label = 0.0, 0.0, 0.0, 0, 0
                first, row = z + i * pitch, load(order, begin + i) * outputs
                for j in range(outputs):
                    value, target = load(space, first + j), load(y, row + j)
                    error = np.float64(value) - np.float64(target)
                    absolute += abs(error)
                    square = add(square, mul(error, error))
                    hits += 1.0 if (value > SCALAR(0)) == (target > SCALAR(0.5)) else 0.0
                    best = j if value > load(space, first + best) else best
                    label = j if target > load(y, row + label) else label
                store(measures, 3 * (begin + i), hits if BINARY else 1.0 if best == label else 0.0)
                store(measures, 3 * (begin + i) + 1, absolute)
                store(measures, 3 * (begin + i) + 2, square)
                i += threads
            cuda.syncthreads()
        e = thread
        while e < rows * outputs:
            i = quotient(e, outputs)
            j = e - i * outputs
            at, row = i * pitch + j, load(order, begin + i)
            value, target = load(space, z + at), load(y, row * outputs + j)
            derivative = mul(loss_derivative(value, target), factor)
            if WEIGHTED:
                derivative = mul(derivative, load(weights, row))
            store(space, delta + at, derivative)
            store(space, z + at, loss_value(value, target))
            e += threads
        cuda.syncthreads()
        i = thread
        while i < rows:
            total = 0.0
            for j in range(outputs):
                total += np.float64(load(space, z + i * pitch + j))
            store(losses, begin + i, total)
            i += threads

    return element_losses
