"""Messages by MPI, through mpi4py."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

try:
    from mpi4py import MPI
except (ImportError, RuntimeError) as error:  # mpi4py raises the latter where there is no MPI library
    raise ImportError(
        f"mpi4py cannot be used: {error}. Install both it and an MPI: pip install mpi4py mpich"
    ) from error

_KEY = MPI.Comm.Create_keyval()  # under which MPI's own communicator keeps ours


def mpi_communicator(x: Any) -> MPICommunicator:
    """The one communicator that belongs to one of mpi4py."""
    if not isinstance(x, MPI.Intracomm) or x == MPI.COMM_NULL:
        raise ValueError(f"comm is {x!r}; an intra-communicator that this process belongs to is needed: MPI.COMM_WORLD")
    known: Any = x.Get_attr(_KEY)
    if known is None:
        known = MPICommunicator(x.Dup())
        x.Set_attr(_KEY, known)
    made: MPICommunicator = known
    return made


class MPICommunicator:
    """See `communicator.Communicator`."""

    engine = "mpi"
    on_device = False
    watch: Any = None

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.rank, self.size = int(comm.rank), int(comm.size)
        _outlive_others()

    def send(self, x: np.ndarray, to: int, tag: int) -> Any:
        return self._comm.Isend(x, to, tag)

    def receive(self, x: np.ndarray, source: int, tag: int) -> Any:
        return self._comm.Irecv(x, source, tag)

    def wait(self, requests: Sequence[Any]) -> None:
        MPI.Request.Waitall(requests)

    def start_gather(self, mine: np.ndarray, everyones: np.ndarray) -> Any:
        return self._comm.Iallgather(mine, everyones)

    def all_gather_small(self, mine: np.ndarray) -> np.ndarray:
        everyones = np.empty((self.size, mine.size))
        self.wait([self.start_gather(mine, everyones)])
        return everyones

    def all_gather_object(self, x: Any) -> list[Any]:
        return list(self._comm.allgather(x))

    def broadcast(self, x: np.ndarray, root: int = 0) -> None:
        self._comm.Bcast(x, root)

    def barrier(self) -> None:
        self._comm.Barrier()

    def reduce_scatter(self, full: Any, shard: Any) -> None:
        _finished(full)
        self._comm.Reduce_scatter_block(full, shard, MPI.SUM)

    def all_gather(self, shard: Any, full: Any) -> None:
        _finished(full)
        self._comm.Allgather(shard, full)


def _outlive_others() -> None:
    """Let the signal by which MPICH's mpiexec tells a rank of the end of another not end it before its message."""
    told = getattr(signal, "SIGUSR1", None)
    main = threading.current_thread() is threading.main_thread()
    if told is not None and main and signal.getsignal(told) is signal.SIG_DFL:
        signal.signal(told, signal.SIG_IGN)


def _finished(x: Any) -> None:
    """MPI knows no streams: wait for what a device array's library has started."""
    if hasattr(x, "__cuda_array_interface__"):
        from ..gpu.target import cuda

        cuda.current_context().synchronize()
