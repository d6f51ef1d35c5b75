"""The sums of an epoch, formed on the host from what its steps left in the device's memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

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
    labels: bool,
    weights: np.ndarray | None = None,
    sums: np.ndarray | None = None,
    first: int = 0,
    last: int | None = None,
) -> np.ndarray:
    """The sums (`..sums`) of steps `first` to `last` of an epoch of n rows, with the bits of the CPU, for each network.

    `weights` are those of the rows, in the order of the epoch; `decays` has the weight of the penalty for each step.
    With `sums` they are added to those.
    """
    out = np.zeros((len(records.losses), slots.SUMS)) if sums is None else sums
    last = -(-n // batch) if last is None else last
    rows = slice(first * batch, min(n, last * batch))
    losses = records.losses[:, rows]
    each: Any = 1.0 if weights is None else np.asarray(weights, np.float64)[:, rows]
    masses = group_weights(None if weights is None else weights[:, rows], rows.stop - rows.start, batch)
    weighted = losses if weights is None else each * losses
    out[:, slots.LOSS] = _chain(out[:, slots.LOSS], loss_factor * chains(weighted, batch))
    out[:, slots.WEIGHT] = _chain(out[:, slots.WEIGHT], masses)
    if records.measures is not None:
        for column, slot in enumerate((slots.HIT, slots.ABSOLUTE, slots.SQUARE)[: 1 if labels else 3]):
            out[:, slot] = _chain(out[:, slot], each * records.measures[:, rows, column])
    if records.squares is not None:
        decay = decays[:, first:last]
        squares = np.where(decay != 0, records.squares[:, first:last], 0.0)  # without a penalty they may be infinite
        penalties = masses * (0.5 * decay * squares)
        out[:, slots.PENALTY] = _chain(out[:, slots.PENALTY], penalties)
    return out


def _chain(start: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`start` plus the elements of each row, one after the other."""
    terms = np.empty((len(start), x.shape[1] + 1))
    terms[:, 0], terms[:, 1:] = start, x
    return np.add.accumulate(terms, axis=1)[:, -1]


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
