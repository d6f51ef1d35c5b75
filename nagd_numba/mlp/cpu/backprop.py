"""The passes over all layers, for a range of rows of the batch or a share of the weights.

With layer inputs `h_0 = X`, `z_l = h_{l-1} W_l + b_l`, `h_l = activation(z_l)` and the loss `f(z_L, y)`:

    delta_L = df/dz_L,    delta_l = (delta_{l+1} W_{l+1}^T) * activation'(h_l),
    dW_l = h_{l-1}^T delta_l + l2 W_l,    db_l = column sums of delta_l.

`hidden` holds the activations of one hidden layer after the other, `deltas` the deltas of the layers above the inputs;
each layer has all rows of the batch there.  Rows can be worked on in any portions, and so can weights: no element's
arithmetic depends on it.  What ends a product (`epilogues`) is given by its address.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels.linking import Interface, Linked, linked
from ...kernels.pointers import shifted, spill
from ...kernels.template import template
from ..dropout import layer_key
from . import gemm


@template
def forward_rows(product):
    """The activations and the outputs `z` of rows `first` to `last`, of `rows` in all.

    Those of the first `done` layers, at most one, are there.
    """

    def forward_rows(function, params, x, sizes, layers, rows, hidden, z, first, last, buffer, panels, dropout, done):
        seed, threshold, keep = dropout
        below, below_start = x, 0
        start, place = 0, 0
        for layer in range(layers):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            biases = start + inputs * outputs
            top = layer == layers - 1
            out, out_start = (z, 0) if top else (hidden, place)
            if layer >= done:
                product(
                    *(shifted(below, below_start), inputs, 1, shifted(params, start), outputs, 1),
                    *(first, last, outputs, inputs, buffer, panels, function),
                    spill((params, biases, out, out_start, outputs, top, layer_key(seed, layer), threshold, keep)),
                )
            below, below_start = hidden, place
            place += rows * outputs
            start = biases + outputs

    return forward_rows


@template
def backward_rows(product):
    """The deltas of rows `first` to `last` of the hidden layers, from those of the outputs."""

    def backward_rows(
        function, params, size, sizes, layers, rows, width, hidden, deltas, first, last, buffer, panels, dropout
    ):
        seed, threshold, keep = dropout
        end = size
        place = delta = rows * width  # `width`: of all hidden layers
        for layer in range(layers - 1, 0, -1):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            weights = end - (inputs + 1) * outputs
            place -= rows * inputs
            below = delta - rows * inputs
            product(
                *(shifted(deltas, delta), outputs, 1, shifted(params, weights), 1, outputs),
                *(first, last, inputs, outputs, buffer, panels, function),
                spill((hidden, place, deltas, below, inputs, layer_key(seed, layer - 1), threshold, keep)),
            )
            end, delta = weights, below

    return backward_rows


@template
def weights_share(product, T):
    """The gradients of the weights in one of `shares` equal parts of every layer; the first has the biases too.

    Those of the weights of the first `done` layers, at most one, are there, but not those of their biases.  `target` is
    where they go, or the first state of the rule that is given them: see `epilogues`.  `one` points at a 1.
    """

    def weights_share(
        function, params, size, x, one, sizes, layers, rows, hidden, deltas, share, shares, buffer, panels, to, done
    ):
        target, l2, more, scalars = to
        below, below_start = x, 0
        start, place, delta = 0, 0, 0
        for layer in range(layers):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            part = (inputs + shares - 1) // shares
            lowest, highest = min(inputs, share * part), min(inputs, (share + 1) * part)
            if lowest < highest and layer >= done:
                product(
                    *(shifted(below, below_start), 1, inputs, shifted(deltas, delta), outputs, 1),
                    *(lowest, highest, outputs, rows, buffer, panels, function),
                    spill((params, target, start, outputs, l2, more, scalars, size)),
                )
            start += inputs * outputs
            if share == 0:
                # The column sums of delta: a product with a row of ones.
                product(
                    *(one, 1, 0, shifted(deltas, delta), outputs, 1, 0, 1, outputs, rows, buffer, panels, function),
                    spill((params, target, start, outputs, T(0), more, scalars, size)),
                )
            start += outputs
            delta += rows * outputs
            below, below_start = hidden, place
            place += rows * outputs

    return weights_share


def _types(dtype: str) -> tuple[Any, Any, Any, Any]:
    kind = from_dtype(np.dtype(dtype))
    dropout = types.Tuple((types.uint64, types.uint64, types.float64))
    return kind, types.CPointer(kind), types.CPointer(types.int64), dropout


@functools.cache
def forward(dtype: str) -> Linked:
    """`forward_rows`."""
    _, x, sizes, dropout = _types(dtype)
    n = types.int64
    given = (n, x, x, sizes, n, n, x, x, n, n, x, x, dropout, n)
    return linked(forward_rows.bind(product=gemm.product_of(dtype).call), Interface(types.void(*given)))


@functools.cache
def backward(dtype: str) -> Linked:
    """`backward_rows`."""
    _, x, sizes, dropout = _types(dtype)
    n = types.int64
    given = (n, x, n, sizes, n, n, n, x, x, n, n, x, x, dropout)
    return linked(backward_rows.bind(product=gemm.product_of(dtype).call), Interface(types.void(*given)))


@functools.cache
def weights(dtype: str) -> Linked:
    """`weights_share`."""
    kind, x, sizes, _ = _types(dtype)
    n, to = types.int64, types.Tuple((x, kind, types.boolean, x))
    given = (n, x, n, x, x, sizes, n, n, x, x, n, n, x, x, to, n)
    bound = weights_share.bind(product=gemm.product_of(dtype).call, T=np.dtype(dtype).type)
    return linked(bound, Interface(types.void(*given)))
