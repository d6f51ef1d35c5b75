"""Messages by NCCL, through nccl4py, between device arrays.  Untested on devices."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np

try:
    from nccl.core import SUM

    from ..gpu.target import cuda
except ImportError as error:
    raise ImportError(f"nccl4py and numba-cuda are needed ({error}): pip install nccl4py 'numba-cuda[cu13]'") from error


class NCCLCommunicator:
    """See `communicator.Communicator`; what lies in host memory takes the way over the device.  Default stream."""

    engine = "nccl"
    on_device = True
    watch: Any = None

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.rank, self.size = int(comm.rank), int(comm.nranks)

    def wait(self, requests: Sequence[Any]) -> None:
        """Everything is done when its call returns, or in the order of the stream."""

    def start_gather(self, mine: np.ndarray, everyones: np.ndarray) -> None:
        everyones[...] = self._gathered(mine).reshape(everyones.shape)

    def all_gather_small(self, mine: np.ndarray) -> np.ndarray:
        return self._gathered(mine)

    def all_gather_object(self, x: Any) -> list[Any]:
        data = np.frombuffer(pickle.dumps(x), np.uint8)
        lengths = self._gathered(np.array([data.size], np.int64))[:, 0]
        padded = np.zeros(int(lengths.max()), np.uint8)
        padded[: data.size] = data
        rows = self._gathered(padded)
        return [pickle.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]

    def broadcast(self, x: Any, root: int = 0) -> None:
        there = cuda.to_device(x) if isinstance(x, np.ndarray) else x
        self._comm.broadcast(there, there, root)
        if isinstance(x, np.ndarray):
            there.copy_to_host(x)

    def barrier(self) -> None:
        self._gathered(np.zeros(1))

    def reduce_scatter(self, full: Any, shard: Any) -> None:
        self._comm.reduce_scatter(full, shard, SUM)

    def all_gather(self, shard: Any, full: Any) -> None:
        self._comm.allgather(shard, full)

    def _gathered(self, mine: np.ndarray) -> np.ndarray:
        """A host array of each rank, as rows on all."""
        everyones = cuda.device_array(self.size * mine.size, mine.dtype)
        self._comm.allgather(cuda.to_device(mine.reshape(-1)), everyones)
        return np.asarray(everyones.copy_to_host()).reshape(self.size, mine.size)
