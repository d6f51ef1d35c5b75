"""The passes over all layers, for a range of rows of the batch or a share of the weights.

Templates, bound by `bindings.py`.  With layer inputs `h_0 = X`, `z_l = h_{l-1} W_l + b_l`, `h_l = activation(z_l)`
and the loss `f(z_L, y)`:

    delta_L = df/dz_L,    delta_l = (delta_{l+1} W_{l+1}^T) * slope(h_l),
    dW_l = h_{l-1}^T delta_l + l2 W_l,    db_l = column sums of delta_l.

`hidden` holds the activations of one hidden layer after the other, `deltas` the deltas of the layers above the inputs;
each layer has all rows of the batch there.  Rows can be worked on in any portions, and so can weights: no element's
arithmetic depends on it.
"""

from __future__ import annotations

from typing import Any

from ...kernels.pointers import pointer
from ..dropout import layer_key
from .microkernel import ROWS

# Bound when compiled.
hidden_product: Any = None
output_product: Any = None
delta_product: Any = None
weights_product: Any = None


def forward_rows(params, x, sizes, rows, hidden, z, first, last, buffer, panel, seed, threshold, keep):
    """The activations and the outputs `z` of rows `first` to `last`, of `rows` in all."""
    below, below_start = pointer(x), 0
    weights, activations = pointer(params), pointer(hidden)
    start, place = 0, 0
    for layer in range(sizes.size - 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        biases = start + inputs * outputs
        if layer == sizes.size - 2:
            output_product(
                *(below, below_start, inputs, weights, start, outputs, first, last, outputs, inputs),
                *(buffer, panel, (weights, biases, pointer(z), 0, outputs)),
            )
        else:
            to = weights, biases, activations, place, outputs, layer_key(seed, layer), threshold, keep
            hidden_product(
                *(below, below_start, inputs, weights, start, outputs, first, last, outputs, inputs),
                *(buffer, panel, to),
            )
            below, below_start = activations, place
            place += rows * outputs
        start = biases + outputs


def backward_rows(params, sizes, rows, hidden, deltas, first, last, buffer, panel, seed, threshold, keep):
    """The deltas of rows `first` to `last` of the hidden layers, from those of the outputs."""
    activations, slopes = pointer(hidden), pointer(deltas)
    end = params.size
    place, delta = hidden.size, deltas.size - rows * sizes[-1]
    for layer in range(sizes.size - 2, 0, -1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        weights = end - (inputs + 1) * outputs
        place -= rows * inputs
        below = delta - rows * inputs
        to = activations, place, slopes, below, inputs, layer_key(seed, layer - 1), threshold, keep
        delta_product(
            *(slopes, delta, outputs, pointer(params), weights, outputs, first, last, inputs, outputs),
            *(buffer, panel, to),
        )
        end, delta = weights, below


def gradients_share(params, x, one, sizes, rows, hidden, deltas, share, shares, buffer, panel, l2, target, last):
    """The gradients of the weights in one of `shares` equal parts of every layer; the first has the biases too.

    The products end with `to = (params, target, start, pitch, l2, last)`: see `products`.  `one` holds a 1.
    """
    T = params.dtype.type
    below, below_start = pointer(x), 0
    slopes, weights, goal = pointer(deltas), pointer(params), pointer(target)
    start, place, delta = 0, 0, 0
    for layer in range(sizes.size - 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        size = (inputs + shares - 1) // shares
        size = (size + ROWS - 1) // ROWS * ROWS
        lowest, highest = min(inputs, share * size), min(inputs, (share + 1) * size)
        if lowest < highest:
            weights_product(
                *(below, below_start, inputs, slopes, delta, outputs, lowest, highest, outputs, rows),
                *(buffer, panel, (weights, goal, start, outputs, l2, last)),
            )
        start += inputs * outputs
        if share == 0:
            # The column sums of delta: a product with a row of ones.
            weights_product(
                *(pointer(one), 0, 0, slopes, delta, outputs, 0, 1, outputs, rows),
                *(buffer, panel, (weights, goal, start, outputs, T(0), last)),
            )
        start += outputs
        delta += rows * outputs
        below, below_start = pointer(hidden), place
        place += rows * outputs
