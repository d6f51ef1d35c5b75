"""Binds the templates of the passes to one dtype, activation, loss and rule."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ...kernels.jit import callee, merged
from ..activations import ACTIVATIONS
from ..losses import LOSSES
from . import backprop, gemm, losses
from .microkernel import ROWS, tile


def _product(dtype: str, finish: Callable, across: bool = False, transposed: bool = False, **bound: Any) -> Callable:
    """A product that ends with `finish`."""
    operations = tile(dtype)
    common: dict[str, Any] = {
        **operations._asdict(),
        "ROWS": ROWS,
        "COLUMNS": operations.columns,
        "TILE": ROWS * operations.columns,
    }
    if finish is gemm.finish_update:
        bound["element"] = merged(gemm.update_at, **bound)
    last = merged(finish, **common, **bound)
    return callee(gemm.product, finish=last, ACROSS=across, TRANSPOSED=transposed, **common)


def buffer_sizes(dtype: str, widest: int) -> tuple[int, int]:
    """Elements of the buffer and of the panel of one thread; `widest` is the largest inner dimension of a product."""
    width = columns(dtype)
    return 3 * ROWS * width, (widest + ROWS) * width


@functools.cache  # making the operations anew takes 0.3 ms
def columns(dtype: str) -> int:
    """The width of a tile."""
    return tile(dtype).columns


@functools.cache
def forward_rows(dtype: str, activation: str, dropout: bool) -> Callable:
    value = ACTIVATIONS[activation].value
    return callee(
        backprop.forward_rows,
        hidden_product=_product(dtype, gemm.finish_hidden, activate=value, DROPOUT=dropout),
        output_product=_product(dtype, gemm.finish_output),
    )


@functools.cache
def backward_rows(dtype: str, activation: str, dropout: bool) -> Callable:
    slope = ACTIVATIONS[activation].slope
    product = _product(dtype, gemm.finish_delta, transposed=True, slope=slope, DROPOUT=dropout)
    return callee(backprop.backward_rows, delta_product=product)


@functools.cache
def gradients_share(dtype: str) -> Callable:
    """`gradients_share(..., target, last)`: writes gradients to `target`, or adds them if `last`."""
    return callee(backprop.gradients_share, weights_product=_product(dtype, gemm.finish_gradient, across=True))


@functools.cache
def update_share(dtype: str, rule: Any, options: tuple[Any, ...]) -> Callable:
    """`gradients_share(..., target, last)`: steps the parameters with the state `target`, the rule's scalars `last`."""
    product = _product(dtype, gemm.finish_update, across=True, update=rule.update, OPTIONS=options)
    return callee(backprop.gradients_share, weights_product=product)


@functools.cache
def output(loss: str) -> Callable:
    """`output(z, y, delta, losses, factor)`."""
    chosen = LOSSES[loss]
    if chosen.labels:
        return callee(losses.cross_entropy_output, **shared(losses.shift_rows, losses.exponentials, losses.normalise))
    element_pass = callee(losses.element_pass, loss_value=chosen.value, loss_slope=chosen.slope)
    return callee(losses.element_output, element_pass=element_pass)


@functools.cache
def allowed(loss: str) -> Callable:
    """`allowed(y, outputs)`: the first row of targets that the loss does not allow, or -1."""
    chosen = LOSSES[loss]
    return callee(losses.labels_allowed) if chosen.labels else callee(losses.targets_allowed, BINARY=chosen.binary)


@functools.cache
def penalty() -> Callable:
    return callee(losses.penalty, **shared(losses.sum_of_squares))


@functools.cache
def _shared(function: Callable) -> Callable:
    """A pass that depends on no option: compiled once for all kernels."""
    return callee(function)


def shared(*functions: Callable) -> dict[str, Any]:
    return {function.__name__: _shared(function) for function in functions}
