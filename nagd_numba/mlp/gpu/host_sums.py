"""What training on a device leaves behind for each row and step, and what `train_kernels.steps` makes of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..cpu import train_kernels


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
    """The summed weights of every `together` rows (their number without weights), as `train_kernels.steps` has them."""
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
    """The sums of `train_kernels.steps` over steps `first` to `last` of an epoch of n rows, to the last bit.

    `weights` are those of the rows, in the order of the epoch; `decays` has the weight of the penalty for each step.
    With `sums` they are added to those.
    """
    out = np.zeros(train_kernels.SUMS) if sums is None else sums
    last = -(-n // batch) if last is None else last
    rows = slice(first * batch, min(n, last * batch))
    losses = np.asarray(records.losses)[rows]
    if weights is not None:
        losses = losses * np.asarray(weights, np.float64)[rows]
    masses = group_weights(None if weights is None else weights[rows], rows.stop - rows.start, batch)
    out[train_kernels.LOSS] = _chain(out[train_kernels.LOSS], loss_factor * _chains(losses, batch))
    out[train_kernels.WEIGHT] = _chain(out[train_kernels.WEIGHT], masses)
    out[train_kernels.ROWS_SEEN] += rows.stop - rows.start
    if records.measures is not None:
        for column, slot in enumerate(
            (train_kernels.HIT, train_kernels.ABSOLUTE, train_kernels.SQUARE)[: 1 if labels else 3]
        ):
            out[slot] = _chain(out[slot], np.asarray(records.measures).reshape(-1, 3)[rows, column])
    if records.squares is not None:
        decay = np.asarray(decays, np.float64)[first:last]
        some = decay != 0  # in other steps nobody wrote the squares
        penalties = masses[some] * (0.5 * decay[some] * np.asarray(records.squares)[first:last][some])
        out[train_kernels.PENALTY] = _chain(out[train_kernels.PENALTY], penalties)
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
