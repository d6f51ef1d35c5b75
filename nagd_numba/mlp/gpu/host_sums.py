"""The sums of an epoch, formed on the host from what its steps left in the device's memory."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ...kernels.jit import kernel
from ...kernels.template import template
from .. import sums as slots


class Records(NamedTuple):
    """What the steps of an epoch write, float64, for each network; a row is counted by its place in the epoch's order.

    losses    of each row, without its weight: shape (networks, rows)
    measures  three of each row (only the first for labels), or None if nothing is measured
    squares   of each step, the sum of the squared weights before it; or None without a penalty
    """

    losses: np.ndarray
    measures: np.ndarray | None = None
    squares: np.ndarray | None = None


def group_weights(weights: np.ndarray | None, n: int, together: int) -> np.ndarray:
    """The summed weights of every `together` of n rows, float64, for each network; without weights, their number."""
    if weights is None:
        starts = np.arange(0, n, together)
        return np.minimum(together, n - starts).astype(np.float64)[None]
    return chains(np.asarray(weights, np.float64), together)


def host_sums(
    records: Records,
    n: int,
    batch: int,
    loss_factor: float,
    decays: np.ndarray,
    coupled: bool,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """The sums (`..sums`) of an epoch of n rows, with the bits of the CPU, for each network.

    `weights` are those of the rows, in the order of the epoch; `decays` has the weight of the penalty for each step.
    """
    out = np.zeros((len(records.losses), slots.SUMS))
    measures = _NONE if records.measures is None else records.measures
    squares = _NONE[0] if records.squares is None else records.squares
    given = _NONE[0] if weights is None else np.ascontiguousarray(weights, np.float64)
    sums_kernel()(records.losses, measures, squares, given, decays, batch, loss_factor, 1 if coupled else 3, out)
    return out


_NONE = np.zeros((1, 0, 0))


@template
def add_up():
    def add_up(losses, measures, squares, weights, decays, batch, loss_factor, columns, out):
        """One term after the other; of what is empty there is nothing."""
        networks, n = losses.shape
        for m in range(networks):
            total = 0.0
            for step in range(-(-n // batch)):
                loss, mass, last = 0.0, 0.0, min(n, (step + 1) * batch)
                if weights.size == 0:
                    mass = np.float64(last - step * batch)
                    for i in range(step * batch, last):
                        loss += losses[m, i]
                else:
                    for i in range(step * batch, last):
                        loss += weights[m, i] * losses[m, i]
                        mass += weights[m, i]
                total += loss_factor * loss
                out[m, slots.WEIGHT] += mass
                if squares.size > 0:
                    decay = decays[m, step]
                    square = squares[m, step] if decay != 0 else 0.0  # without a penalty it may be infinite
                    out[m, slots.PENALTY] += mass * (0.5 * decay * square)
            out[m, slots.LOSS] = total
            if measures.size > 0:
                for c in range(columns):
                    slot = slots.HIT if c == 0 else slots.ABSOLUTE if c == 1 else slots.SQUARE
                    total = 0.0
                    for i in range(n):
                        total += (1.0 if weights.size == 0 else weights[m, i]) * measures[m, i, c]
                    out[m, slot] = total

    return add_up


@functools.cache
def sums_kernel() -> Any:
    """`add_up`, for float64 in C order; `decays` may be in any."""
    matrix, real, n = types.float64[:, ::1], types.float64, types.int64
    any_order = types.Array(real, 2, "A", readonly=True)
    return kernel(
        add_up.bind(),
        types.void(matrix, types.float64[:, :, ::1], matrix, matrix, any_order, n, real, n, matrix),
    )


def chains(x: np.ndarray, each: int) -> np.ndarray:
    """Of every `each` elements of each row the sum, from 0 on, one after the other."""
    count, n = x.shape
    groups = -(-n // each)
    padded = np.zeros((count, groups * each))
    padded[:, :n] = x
    # Terms go to all sums at once, where that is the shorter loop.
    terms = padded.reshape(count * groups, each)
    if each < len(terms):
        total = np.zeros(len(terms))
        for k in range(each):
            total += terms[:, k]
    else:
        total = np.add.accumulate(terms, axis=1)[:, -1] + 0.0
    return total.reshape(count, groups)
