"""The messages of a step between host arrays: pieces of gradients to the ranks that own them, parameters back.

A rank sends each other rank that one's slice of its gradient, and receives N - 1 pieces of its own slice, which it adds
up itself: as many bytes as a reduce_scatter, `(N - 1)/N n`, and the order of the additions is known.  Then each sends
its slice of the new parameters to all others, as many again: `2 (N - 1)/N n` in all, which is the least there is.
Nothing is copied on the way but by the engine.

A bucket takes the same part of every slice; the pieces of the next bucket travel while one is added up and stepped,
and the parameters of the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .slices import Slices

AHEAD = 2  # buckets whose gradients are under way


class Exchange:
    """The messages of one vector's steps."""

    def __init__(self, comm: Any, slices: Slices, dtype: np.dtype, order: Any) -> None:
        self._comm, self.slices, self._order = comm, slices, order
        # The nearest neighbours first, so that not all ranks send to one at the same time.
        self._others = [(comm.rank + k) % comm.size for k in range(1, comm.size)]
        width = min(slices.width, slices.length)
        self._received = [np.empty(order.rows * width, dtype) for _ in range(min(AHEAD, slices.count))]
        most = 0 if order.needs_rows is None else (order.rows_of(comm.rank)[1] - order.rows_of(comm.rank)[0]) * width
        self._outgoing = [[np.empty(most, dtype) for _ in self._others] for _ in self._received]
        self._sum = np.empty(width, dtype)

    def gradients(
        self, grads: np.ndarray, divisor: float, ready: Callable[[], bool], use: Callable[[int, np.ndarray], None]
    ) -> bool:
        """Call `use(bucket, sum)` for each bucket with the sum of this rank's part of it, which is overwritten later.

        `ready` is asked once, when the first messages are under way; where it says no, False is returned as soon as
        they have arrived, and nothing was used.
        """
        count = self.slices.count
        started = {j: self._start(j, grads) for j in range(min(AHEAD, count))}
        if not ready():
            for requests in started.values():
                self._comm.wait(requests)
            return False
        for j in range(count):
            self._comm.wait(started.pop(j))
            start, stop = self.slices.part(self._comm.rank, j)
            if stop == start:
                use(j, self._sum[:0])
            else:
                use(j, self._order.total(self._rows(j), grads, start, stop, self._sum[: stop - start], divisor))
            if j + AHEAD < count:
                started[j + AHEAD] = self._start(j + AHEAD, grads)
        return True

    def send_params(self, params: np.ndarray, bucket: int) -> list[Any]:
        """Start to give this rank's part of a bucket to all others, and to receive theirs; returns the requests."""
        requests, tag = [], 2 * bucket + 1
        for k in self._others:
            start, stop = self.slices.part(k, bucket)
            if stop > start:
                requests.append(self._comm.receive(params[start:stop], k, tag))
        start, stop = self.slices.part(self._comm.rank, bucket)
        if stop > start:
            requests += [self._comm.send(params[start:stop], k, tag) for k in self._others]
        return requests

    def all_params(self, params: np.ndarray) -> None:
        """Give this rank's slice to all others, and receive theirs."""
        requests: list[Any] = []
        for j in range(self.slices.count):
            requests += self.send_params(params, j)
        self._comm.wait(requests)

    def _start(self, bucket: int, grads: np.ndarray) -> list[Any]:
        requests, tag = [], 2 * bucket
        start, stop = self.slices.part(self._comm.rank, bucket)
        if stop > start:
            rows = self._rows(bucket)
            for k in self._others:
                first, last = self._order.rows_of(k)
                if last > first:
                    requests.append(self._comm.receive(rows[first:last].reshape(-1), k, tag))
        for k, memory in zip(self._others, self._outgoing[bucket % AHEAD], strict=True):
            start, stop = self.slices.part(k, bucket)
            if stop > start:
                piece = self._order.outgoing(grads, start, stop, memory)
                if piece.size:
                    requests.append(self._comm.send(piece.reshape(-1), k, tag))
        return requests

    def _rows(self, bucket: int) -> np.ndarray:
        """Memory for the pieces of this rank's slice in a bucket, row by row."""
        start, stop = self.slices.part(self._comm.rank, bucket)
        return self._received[bucket % AHEAD][: self._order.rows * (stop - start)].reshape(self._order.rows, -1)
