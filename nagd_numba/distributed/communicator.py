"""What carries the messages: one small class for each engine, all with the same methods."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..validation import prefixed, type_of
from .alone import Alone


class Communicator(Protocol):
    """The ranks of a job, numbered from 0, and messages between them.

    rank, size   this rank, and how many there are
    engine       the name of what carries the messages
    on_device    does it carry device arrays alone?

    `send` and `receive` start and return requests, for `wait`; messages between two ranks with one tag keep their
    order.  Everything else is called by all ranks, in the same order.
    """

    rank: int
    size: int
    engine: str
    on_device: bool

    def send(self, x: np.ndarray, to: int, tag: int) -> Any:
        """Start to send a contiguous host array, which must stay as it is until the request is done."""

    def receive(self, x: np.ndarray, source: int, tag: int) -> Any:
        """Start to receive into a contiguous host array."""

    def wait(self, requests: Sequence[Any]) -> None:
        """Return when all are done."""

    def start_gather(self, mine: np.ndarray, everyones: np.ndarray) -> Any:
        """Start to collect a float64 vector of each rank as the rows of a matrix, on all ranks; returns a request."""

    def all_gather_small(self, mine: np.ndarray) -> np.ndarray:
        """The same, returned when it is done."""

    def all_gather_object(self, x: Any) -> list[Any]:
        """Something picklable of each rank, on all ranks."""

    def broadcast(self, x: np.ndarray, root: int = 0) -> None:
        """The array of one rank becomes that of all, in place."""

    def barrier(self) -> None:
        """Return when all ranks have called it."""

    def reduce_scatter(self, full: Any, shard: Any) -> None:
        """`shard` becomes the sum over ranks of this rank's part of `full`; equal parts, `full` is `size` of them."""

    def all_gather(self, shard: Any, full: Any) -> None:
        """`full` becomes the parts of all ranks."""


@prefixed("communicator")
def communicator(x: Any) -> Any:
    """The library's form of a communicator of another library; called by all of its ranks.

    Parameters
    ----------
    x : mpi4py.MPI.Intracomm, torch.distributed.ProcessGroup, nccl.core.Communicator, or None
        Two calls with one of the first two give the same object.  MPI's is duplicated, so that messages of the library
        never meet those of your program.  None is one process by itself, without an engine.

    Returns
    -------
    Communicator
        With `rank`, `size`, `send`, `receive`, `wait`, `start_gather`, `all_gather_small`, `all_gather_object`,
        `broadcast`, `barrier`, `reduce_scatter` and `all_gather`.

    Raises
    ------
    TypeError
        For anything else.
    ValueError
        For an inter-communicator, or one that this process is no member of.

    Examples
    --------
    >>> from nagd_numba import distributed
    >>> distributed.communicator(None).size
    1
    """
    if getattr(x, "engine", None) in ("alone", "mpi", "torch", "nccl"):
        return x
    if x is None:
        return Alone()
    home = type(x).__module__.partition(".")[0]
    if home == "mpi4py":
        from .mpi import mpi_communicator

        return mpi_communicator(x)
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and isinstance(x, torch.distributed.ProcessGroup):
        from .torch_group import torch_communicator

        return torch_communicator(x)
    if home == "nccl":
        from .nccl import NCCLCommunicator

        return NCCLCommunicator(x)
    raise TypeError(
        f"comm is {type_of(x)}; a communicator of mpi4py (MPI.COMM_WORLD), a process group of PyTorch "
        f"(torch.distributed.group.WORLD), a communicator of nccl4py, or None for a single process is needed"
    )
