"""The classes of samples in one kernel: outputs are looked at while they are in the cache, and not kept."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels.forms import Forms, run_shares
from ...kernels.jit import inlined, kernel
from ...kernels.linking import linked
from ...kernels.parallel import BODY
from ...kernels.pointers import keep_alive, pointer, restorer, shifted, spill
from ...kernels.template import template
from ..losses import LOSSES
from . import backprop, epilogues
from .inference import SIZES, aligned, line, rows_together, scratch, widths


@template
def classes(locate):
    def classes(params, X, sizes, labels, function, forms):
        rows, layers = np.int64(X.shape[0]), np.int64(sizes.size - 1)
        together, missing = rows_together(rows, params.size), np.zeros(1, np.int64)
        context = spill(
            (
                *(function, pointer(params), pointer(X), pointer(sizes), layers, rows, together, pointer(labels)),
                pointer(missing),
            )
        )
        flop = 2 * rows * params.size
        run_shares(locate(), context, (rows + together - 1) // together, flop, forms)
        found = missing[0] == 0
        keep_alive(missing)
        return found

    return classes


@template
def classes_part(forward_rows, classify, restore, T, BUFFER, panels_size):
    def classes_part(context, part):
        function, params, X, sizes, layers, rows, together, labels, missing = restore(context)
        first = part * together
        count, outputs = min(together, rows - first), sizes[layers]
        width, widest = widths(sizes, layers)
        panel, hidden = line(BUFFER), line(BUFFER) + line(panels_size(count, widest))
        outs = hidden + line(count * width)
        memory = aligned(outs + count * outputs, T)
        here = pointer(memory)
        z = shifted(here, outs)
        forward_rows(
            *(function, params, shifted(X, first * sizes[0]), sizes, layers, count, shifted(here, hidden), z, 0, count),
            *(here, shifted(here, panel), (np.uint64(0), np.uint64(0), 1.0), 0),
        )
        if not classify(z, labels, first, count, outputs):
            missing[0] = 1
        keep_alive(memory)

    return classes_part


@inlined
def largest_outputs(z, labels, first, count, outputs):
    """The place of the largest output of each row, the first of several; is no output a NaN?"""
    numbers = True
    for i in range(count):
        row, best = i * outputs, 0
        for j in range(outputs):
            numbers &= z[row + j] == z[row + j]
            best = j if z[row + j] > z[row + best] else best
        labels[first + i] = best
    return numbers


@inlined
def positive_outputs(z, labels, first, count, outputs):
    """1 for each output above 0, else 0; is none a NaN?"""
    numbers = True
    for i in range(count * outputs):
        numbers &= z[i] == z[i]
        labels[first * outputs + i] = 1 if z[i] > 0 else 0
    return numbers


@functools.cache
def classes_kernel(dtype: str, one_a_row: bool) -> Any:
    """`(params, X, sizes, labels, function, forms) -> bool`: int64 labels, one a row or an output; False: NaN there."""
    scalar, n = from_dtype(np.dtype(dtype)), types.int64
    x, whole = types.CPointer(scalar), types.CPointer(n)
    part = classes_part.bind(
        forward_rows=backprop.forward(dtype).call,
        classify=largest_outputs if one_a_row else positive_outputs,
        restore=restorer(types.Tuple((n, x, x, whole, n, n, n, whole, whole))),
        **scratch(dtype),
    )
    body = linked(part, BODY, allocates=True)
    vector, matrix = (types.Array(scalar, dimensions, "C", readonly=True) for dimensions in (1, 2))
    labels = types.Array(n, 1 if one_a_row else 2, "C")
    return kernel(classes.bind(locate=body.locate), types.boolean(vector, matrix, SIZES, labels, n, n))


@functools.cache
def classes_of(dtype: str, activation: str, loss: str) -> tuple[Any, int, Forms]:
    """`classes_kernel`, what ends the products of the layers, and the forms of these calls."""
    return classes_kernel(dtype, LOSSES[loss].labels), epilogues.forward(dtype, activation).address, Forms()
