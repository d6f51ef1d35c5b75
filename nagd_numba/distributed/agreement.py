"""What all ranks must have alike, and errors that all of them raise together."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

_COLUMNS = 2  # of what each rank tells the others before a step: is it ready, and with which values


def agree(
    comm: Any,
    what: str,
    mine: Mapping[str, Any],
    error: Exception | None = None,
    left: str = "nothing was changed on any rank",
) -> None:
    """Raise on all ranks where one of them has an error, or where they differ in a value; else return on all.

    `error` is that of this rank, which is raised here; the others raise a `RuntimeError` that repeats it, and says in
    which state everything was `left`.
    """
    everyones = comm.all_gather_object((dict(mine), None if error is None else f"{type(error).__name__}: {error}"))
    if error is not None:
        raise error
    for rank, (_, text) in enumerate(everyones):
        if text is not None:
            raise RuntimeError(f"{what}: rank {rank} of {comm.size} raised {text}; {left}")
    values = [known for known, _ in everyones]
    for name in dict.fromkeys(name for known in values for name in known):
        ranks: dict[str, list[int]] = {}
        for rank, known in enumerate(values):
            ranks.setdefault(repr(known.get(name)), []).append(rank)
        if len(ranks) > 1:
            said = " and ".join(f"{value} on {listed(found)}" for value, found in ranks.items())
            raise ValueError(f"{what}: {name} is {said}; the same on all ranks is needed; nothing was changed")


def listed(ranks: Iterable[int]) -> str:
    """Ranks for a message, the first few of many."""
    all_ = list(ranks)
    few = ", ".join(map(str, all_[:5]))
    more = f" and {len(all_) - 5} more" if len(all_) > 5 else ""
    return f"rank {few}" if len(all_) == 1 else f"ranks {few}{more}"


class Check:
    """The agreement of one step: a message of two numbers, under way while the first gradients are.

    `finish` raises on all ranks, or on none.
    """

    def __init__(self, comm: Any, what: str, values: Mapping[str, Any], error: Exception | None) -> None:
        self._comm, self._what, self._values, self._error = comm, what, values, error
        digest = zlib.crc32(repr(sorted(values.items())).encode())
        self._mine = np.array([error is None, digest], np.float64)
        self._everyones = np.empty((comm.size, _COLUMNS))
        self._request = comm.start_gather(self._mine, self._everyones)

    def passed(self) -> bool:
        """Are all ranks ready, with the same values?  The answer is the same on all."""
        self._comm.wait([self._request])
        ready, digests = self._everyones.T
        return bool(ready.all() and (digests == digests[0]).all())

    def explain(self) -> None:
        """Raise what is wrong, on every rank."""
        agree(self._comm, self._what, self._values, self._error)
