"""The sums of an epoch, formed on the host from what its steps left in the device's memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import sums as slots


class Records(NamedTuple):
    """What the steps of an epoch write, float64; a row is counted by its place in the order of the epoch.

    losses    of each row, without its weight
    measures  three of each row (only the first for labels), or None if nothing is measured
    squares   of each step, the sum of the squared weights before it; or None without a penalty
    """

    losses: np.ndarray
    measures: np.ndarray | None = None
    squares: np.ndarray | None = None


def group_weights(weights: np.ndarray | None, n: int, together: int) -> np.ndarray:
    """The summed weights of every `together` rows (their number without weights), float64."""
    if weights is None:
        starts = np.arange(0, n, together)
        return np.minimum(together, n - starts).astype(np.float64)
    return _chains(np.asarray(weights, np.float64), together)


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
    """The sums (`..sums`) of steps `first` to `last` of an epoch of n rows, with the bits of the CPU.

    `weights` are those of the rows, in the order of the epoch; `decays` has the weight of the penalty for each step.
    With `sums` they are added to those.
    """
    out = np.zeros(slots.SUMS) if sums is None else sums
    last = -(-n // batch) if last is None else last
    rows = slice(first * batch, min(n, last * batch))
    losses = np.asarray(records.losses)[rows]
    each = np.ones(1) if weights is None else np.asarray(weights, np.float64)[rows]
    masses = group_weights(None if weights is None else weights[rows], rows.stop - rows.start, batch)
    out[slots.LOSS] = _chain(out[slots.LOSS], loss_factor * _chains(each * losses, batch))
    out[slots.WEIGHT] = _chain(out[slots.WEIGHT], masses)
    if records.measures is not None:
        for column, slot in enumerate((slots.HIT, slots.ABSOLUTE, slots.SQUARE)[: 1 if labels else 3]):
            out[slot] = _chain(out[slot], each * np.asarray(records.measures).reshape(-1, 3)[rows, column])
    if records.squares is not None:
        decay = np.asarray(decays, np.float64)[first:last]
        some = decay != 0  # in other steps nobody wrote the squares
        penalties = masses[some] * (0.5 * decay[some] * np.asarray(records.squares)[first:last][some])
        out[slots.PENALTY] = _chain(out[slots.PENALTY], penalties)
    return out


def _chain(start: float, x: np.ndarray) -> float:
    """`start` plus the elements, one after the other."""
    return float(np.add.accumulate(np.concatenate(([start], x)))[-1])


def _chains(x: np.ndarray, each: int) -> np.ndarray:
    """Of every `each` elements the sum, from 0 on, one after the other."""
    groups = -(-len(x) // each)
    padded = np.zeros((groups, each + 1))
    flat = np.zeros(groups * each)
    flat[: len(x)] = x
    padded[:, 1:] = flat.reshape(groups, each)
    return np.add.accumulate(padded, axis=1)[:, -1]
