"""Where the parameters of each layer lie in the flat vector.

Layer `l = 1 … L` maps `sizes[l-1]` inputs to `sizes[l]` outputs.  Its weights `W{l}`, of shape (inputs, outputs) in C
order, are followed by its biases `b{l}`, of shape (outputs,), and these by the next layer's weights.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Layer(NamedTuple):
    """One layer: its shape, and the offsets of its parameters in elements."""

    inputs: int
    outputs: int
    weights: int
    biases: int


def checked_sizes(sizes: Any) -> tuple[int, ...]:
    """`sizes` as a tuple of at least two positive ints; raises for anything else."""
    try:
        widths = tuple(operator.index(n) for n in sizes)
    except TypeError as error:
        raise TypeError(
            f"sizes is {sizes!r}; the integer widths of all layers are needed, from inputs to outputs: (64, 128, 10)"
        ) from error
    if len(widths) < 2:
        raise ValueError(f"sizes is {sizes!r}; at least two widths are needed, of the inputs and of the outputs")
    if any(n < 1 for n in widths):
        raise ValueError(f"sizes is {sizes!r}; every width must be >= 1")
    return widths


def layers(sizes: Sequence[int]) -> Iterator[Layer]:
    """The layers in the order in which they lie in memory."""
    start = 0
    for inputs, outputs in itertools.pairwise(sizes):
        biases = start + inputs * outputs
        yield Layer(inputs, outputs, start, biases)
        start = biases + outputs


def parameter_count(sizes: Sequence[int]) -> int:
    """The length of the flat vector."""
    return sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))


def named_shapes(sizes: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
    """The layout in the form of `nagd_numba.FlatParams`: ("W1", (n0, n1)), ("b1", (n1,)), ("W2", …), …"""
    shapes: list[tuple[str, tuple[int, ...]]] = []
    for index, layer in enumerate(layers(sizes), start=1):
        shapes.append((f"W{index}", (layer.inputs, layer.outputs)))
        shapes.append((f"b{index}", (layer.outputs,)))
    return shapes
