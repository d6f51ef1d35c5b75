"""The forward and backward passes on the CPU: matrix products by BLAS, the rest in loops that LLVM vectorises.

All kernels are templates, whose global names `forward_kernel`, `value_kernel` and `gradient_kernel` bind to one
activation and loss before compiling.  With layer inputs `h_0 = X`, `z_l = h_{l-1} W_l + b_l`, `h_l = activation(z_l)`
and the loss `f(z_L, y)`:

    delta_L = df/dz_L,    delta_l = (delta_{l+1} W_{l+1}^T) * slope(h_l),
    dW_l = h_{l-1}^T delta_l + l2 W_l,    db_l = column sums of delta_l.

Depth and sizes are arguments: one compilation serves every network of a dtype, activation and loss.  Every pass is a
function of its own, so that LLVM sees few pointers at a time.  The summation orders depend on nothing but the shapes
(and on the number of threads that BLAS is given).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ..compile import callee, cpu_kernel
from . import passes
from .cells import ACTIVATIONS, LOSSES, layer_key

# Bound below.
output: Any = None
hidden_layer: Any = None
output_layer: Any = None
hidden_delta: Any = None
product: Any = None
column_sums: Any = None
add_scaled: Any = None
penalty: Any = None

_SIZES = types.Array(types.int64, 1, "C")
_RESULT = types.Tuple((types.float64, types.int64))


@functools.cache
def forward_kernel(dtype: str, activation: str) -> Callable:
    """`kernel(params, X, sizes, out)`: the outputs of the last layer, without dropout.

    This and the next two compile for their options when first asked, and are cached on disk.  `X`, `y` and `out` are
    C-contiguous matrices of the dtype of `params` (`y` of cross entropy: int64, one label a row), `sizes` is int64.
    Compiled code can call the kernels as well.
    """
    vector, matrix, written = _array_types(dtype)
    return cpu_kernel(
        forward,
        f"mlp_forward_{activation}_{dtype}",
        types.void(vector, matrix, _SIZES, written),
        forward_layers=_forward_layers(activation, False),
        widths=_shared(widths),
    )


@functools.cache
def value_kernel(dtype: str, activation: str, loss: str) -> Callable:
    """`kernel(params, X, y, sizes, l2) -> (loss, bad)`: the mean loss with its penalty.

    `bad` is the first row whose target is not allowed, or -1.
    """
    vector, matrix, _ = _array_types(dtype)
    return cpu_kernel(
        value,
        f"mlp_value_{activation}_{loss}_{dtype}",
        _RESULT(vector, matrix, _target_type(loss, matrix), _SIZES, types.float64),
        forward_layers=_forward_layers(activation, False),
        output=_output(loss),
        penalty=_shared(passes.penalty),
        widths=_shared(widths),
    )


@functools.cache
def gradient_kernel(dtype: str, activation: str, loss: str, dropout: bool) -> Callable:
    """`kernel(params, X, y, grads, sizes, l2, seed, threshold, keep) -> (loss, bad)`; the gradient goes to `grads`.

    With a bad row nothing is written.  Without `dropout`, `seed`, `threshold` and `keep` have no effect.
    """
    vector, matrix, _ = _array_types(dtype)
    grads = vector.copy(readonly=False)
    return cpu_kernel(
        gradient,
        f"mlp_gradient_{activation}_{loss}_{'dropout' if dropout else 'plain'}_{dtype}",
        _RESULT(
            *(vector, matrix, _target_type(loss, matrix), grads),
            *(_SIZES, types.float64, types.uint64, types.uint64, types.float64),
        ),
        forward_layers=_forward_layers(activation, dropout),
        output=_output(loss),
        penalty=_shared(passes.penalty),
        widths=_shared(widths),
        backward_layers=_backward_layers(activation, dropout),
    )


@functools.cache
def probability_kernel(dtype: str, loss: str) -> Callable:
    """`kernel(z)`: softmax of each row, or the sigmoid of each element, in place."""
    parts: dict[str, Any] = {}
    template = passes.sigmoids
    if LOSSES[loss].labels:
        template = passes.softmax_rows
        parts = _all_shared(passes.shift_rows, passes.exponentials)
    return cpu_kernel(template, f"mlp_{template.__name__}_{dtype}", types.void(_array_types(dtype)[2]), **parts)


def _array_types(dtype: str) -> tuple[Any, Any, Any]:
    """A vector and a matrix that are read, and a matrix that is written."""
    scalar = from_dtype(np.dtype(dtype))
    # Kernels declared for read-only arrays accept both kinds.
    vector, matrix = (types.Array(scalar, n, "C", readonly=True) for n in (1, 2))
    return vector, matrix, types.Array(scalar, 2, "C")


def _target_type(loss: str, matrix: Any) -> Any:
    return types.Array(types.int64, 1, "C", readonly=True) if LOSSES[loss].labels else matrix


@functools.cache
def _forward_layers(activation: str, dropout: bool) -> Callable:
    return callee(
        forward_layers,
        hidden_layer=callee(passes.hidden_layer, activate=ACTIVATIONS[activation].value, DROPOUT=dropout),
        output_layer=_shared(passes.output_layer),
        product=_shared(passes.product),
    )


@functools.cache
def _backward_layers(activation: str, dropout: bool) -> Callable:
    parts = _all_shared(passes.product, passes.column_sums, passes.add_scaled)
    delta = callee(passes.hidden_delta, slope=ACTIVATIONS[activation].slope, DROPOUT=dropout)
    return callee(backward_layers, hidden_delta=delta, **parts)


@functools.cache
def _output(loss: str) -> Callable:
    """`output(z, y, delta) -> (loss, bad)`, with the slope of the loss in `delta`; `z` is overwritten."""
    chosen = LOSSES[loss]
    if chosen.labels:
        parts = _all_shared(passes.labels_allowed, passes.shift_rows, passes.exponentials, passes.normalise)
        return callee(passes.cross_entropy_output, **parts)
    return callee(
        passes.element_output,
        element_pass=callee(passes.element_pass, loss_value=chosen.value, loss_slope=chosen.slope),
        targets_allowed=callee(passes.targets_allowed, BINARY=chosen.binary),
        total=_shared(passes.total),
    )


@functools.cache
def _shared(function: Callable) -> Callable:
    """A pass that depends on no option: compiled once for all kernels."""
    return callee(function)


def _all_shared(*functions: Callable) -> dict[str, Any]:
    return {function.__name__: _shared(function) for function in functions}


def forward(params, X, sizes, out):
    """Write the outputs of the last layer to `out`."""
    total_width, _ = widths(sizes)
    hidden = np.empty(X.shape[0] * total_width, params.dtype)
    forward_layers(params, X, sizes, hidden, out, np.uint64(0), np.uint64(0), 1.0)


def value(params, X, y, sizes, l2):
    """The mean loss, without dropout, with the penalty."""
    total_width, _ = widths(sizes)
    hidden = np.empty(X.shape[0] * total_width, params.dtype)
    z = np.empty((X.shape[0], sizes[-1]), params.dtype)
    forward_layers(params, X, sizes, hidden, z, np.uint64(0), np.uint64(0), 1.0)
    loss, bad = output(z, y, np.empty(z.shape, z.dtype))
    if l2 != 0:
        loss += penalty(params, sizes, l2)
    return loss, bad


def gradient(params, X, y, grads, sizes, l2, seed, threshold, keep):
    """The mean loss with the penalty; its gradient goes to `grads`."""
    rows = X.shape[0]
    total_width, widest = widths(sizes)
    hidden = np.empty(rows * total_width, params.dtype)
    z = np.empty((rows, sizes[-1]), params.dtype)
    forward_layers(params, X, sizes, hidden, z, seed, threshold, keep)
    deltas = np.empty((2, rows * widest), params.dtype)
    loss, bad = output(z, y, deltas[0, : z.size].reshape(z.shape))
    if bad >= 0:
        return loss, bad
    if l2 != 0:
        loss += penalty(params, sizes, l2)
    backward_layers(params, X, grads, sizes, hidden, deltas, l2, seed, threshold, keep)
    return loss, bad


def widths(sizes):
    """The widths of all hidden layers together, and the largest width above the inputs."""
    hidden, widest = 0, 0
    for layer in range(1, sizes.size):
        if layer < sizes.size - 1:
            hidden += sizes[layer]
        widest = max(widest, sizes[layer])
    return hidden, widest


def forward_layers(params, X, sizes, hidden, out, seed, threshold, keep):
    """Every layer: the activations of the hidden ones go to `hidden`, one after the other, the outputs to `out`."""
    rows = X.shape[0]
    below = X
    start, place = 0, 0
    for layer in range(sizes.size - 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        weights = params[start : start + inputs * outputs].reshape((inputs, outputs))
        start += inputs * outputs
        biases = params[start : start + outputs]
        start += outputs
        if layer == sizes.size - 2:
            product(below, weights, out)
            output_layer(out, biases)
        else:
            here = hidden[place : place + rows * outputs].reshape((rows, outputs))
            place += rows * outputs
            product(below, weights, here)
            hidden_layer(here, biases, layer_key(seed, layer), threshold, keep)
            below = here


def backward_layers(params, X, grads, sizes, hidden, deltas, l2, seed, threshold, keep):
    """The gradient of every layer, from the last to the first; `deltas[0]` holds the loss's slope at the outputs."""
    rows = X.shape[0]
    end, place, which = params.size, hidden.size, 0
    for layer in range(sizes.size - 2, -1, -1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        start = end - outputs
        delta = deltas[which, : rows * outputs].reshape((rows, outputs))
        column_sums(delta, grads[start:end])
        end = start - inputs * outputs
        weights = params[end:start].reshape((inputs, outputs))
        slopes = grads[end:start].reshape((inputs, outputs))
        if layer == 0:
            product(X.T, delta, slopes)
        else:
            place -= rows * inputs
            below = hidden[place : place + rows * inputs].reshape((rows, inputs))
            product(below.T, delta, slopes)
            which = 1 - which
            delta_below = deltas[which, : rows * inputs].reshape((rows, inputs))
            product(delta, weights.T, delta_below)
            hidden_delta(delta_below, below, layer_key(seed, layer - 1), threshold, keep)
        if l2 != 0:
            add_scaled(slopes, weights, l2)
