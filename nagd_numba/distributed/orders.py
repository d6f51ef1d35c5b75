"""In which order the gradients of all ranks are added up: that of the ranks, or a tree that does not know them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.rows import sum_kernel
from ..optimizers.guarded_arrays import read_only
from .tree import Tree


class RankOrder:
    """`((g_0 + g_1) + g_2) + ...`, over the ranks: each sends its gradient as it is."""

    def __init__(self, comm: Any, dtype: np.dtype) -> None:
        self.rank, self.rows = comm.rank, comm.size
        self.needs_rows: int | None = None
        self.divisor = float(comm.size)
        self._kernel = sum_kernel(dtype)

    def rows_of(self, rank: int) -> tuple[int, int]:
        """Which of the rows that are added up come from a rank."""
        return rank, rank + 1

    def outgoing(self, grads: np.ndarray, start: int, stop: int, memory: np.ndarray) -> np.ndarray:
        """What is sent of these elements."""
        return grads[start:stop]

    def total(
        self, rows: np.ndarray, grads: np.ndarray, start: int, stop: int, out: np.ndarray, divisor: float
    ) -> np.ndarray:
        """The sum over all ranks of these elements, divided; in `out`, but for a sum of one."""
        if self.rows == 1 and divisor == 1.0:
            return grads[start:stop]
        self._kernel(rows, read_only(grads[start:stop]), self.rank, out, divisor)
        return out


class TreeOrder:
    """The fixed tree of `tree.Tree` over micro-batches: each rank sends the sums of its whole branches.

    A rank's gradients have a row for each micro-batch, or for each of these sums, where it has formed them itself.
    """

    def __init__(self, comm: Any, dtype: np.dtype, micro_batches: int) -> None:
        self._tree = Tree(micro_batches, comm.size)
        sent = [self._tree.sent(rank) for rank in range(comm.size)]
        self._first = np.concatenate([[0], np.cumsum(sent)]).tolist()
        self.rank, self.rows = comm.rank, int(self._first[-1])
        self.needs_rows: int | None = len(self._tree.rows(comm.rank))
        self.divisor = float(micro_batches)

    def rows_of(self, rank: int) -> tuple[int, int]:
        return self._first[rank], self._first[rank + 1]

    def outgoing(self, grads: np.ndarray, start: int, stop: int, memory: np.ndarray) -> np.ndarray:
        first, last = self.rows_of(self.rank)
        if last - first == len(grads) == 1:
            return grads[0, start:stop]
        made = memory[: (last - first) * (stop - start)].reshape(last - first, stop - start)
        self._sums(grads[:, start:stop], made)
        return made

    def total(
        self, rows: np.ndarray, grads: np.ndarray, start: int, stop: int, out: np.ndarray, divisor: float
    ) -> np.ndarray:
        if self.rows == len(grads) == 1 and divisor == 1.0:
            return grads[0, start:stop]
        first, last = self.rows_of(self.rank)
        self._sums(grads[:, start:stop], rows[first:last])
        self._tree.combine(rows, out)
        if divisor != 1.0:
            out /= out.dtype.type(divisor)
        return out

    def _sums(self, grads: np.ndarray, out: np.ndarray) -> None:
        if len(grads) == len(out):  # as many only where they are the same
            out[...] = grads
        else:
            self._tree.partial(self.rank, grads, out)
