"""Messages by a process group of `torch.distributed`: gloo, whose tensors share the memory of NumPy's arrays."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

try:
    import torch
    import torch.distributed as dist
except ImportError as error:
    raise ImportError("torch is not installed: pip install torch") from error

_known: weakref.WeakKeyDictionary[Any, TorchCommunicator] = weakref.WeakKeyDictionary()


def torch_communicator(group: Any) -> TorchCommunicator:
    """The one communicator that belongs to a process group."""
    known = _known.get(group)
    if known is None:
        known = _known[group] = TorchCommunicator(group)
    return known


class TorchCommunicator:
    """See `communicator.Communicator`."""

    engine = "torch"
    on_device = False
    watch: Any = None

    def __init__(self, group: Any) -> None:
        self._reference = weakref.ref(group)  # its threads end when PyTorch lets it go
        self.rank, self.size = int(group.rank()), int(group.size())
        backends = dist.get_backend_config(group)
        if "cpu" not in backends:
            raise ValueError(
                f"comm carries no messages between processors (its backends: {backends}); they are needed also beside "
                f'device arrays: init_process_group("cpu:gloo,cuda:nccl")'
            )

    @property
    def _group(self) -> Any:
        group = self._reference()
        if group is None:
            raise RuntimeError("comm is a process group that is gone: destroy_process_group was called before")
        return group

    def send(self, x: np.ndarray, to: int, tag: int) -> Any:
        return self._group.send([_tensor(x)], to, tag)

    def receive(self, x: np.ndarray, source: int, tag: int) -> Any:
        return self._group.recv([_tensor(x)], source, tag)

    def wait(self, requests: Sequence[Any]) -> None:
        for request in requests:
            request.wait()

    def start_gather(self, mine: np.ndarray, everyones: np.ndarray) -> Any:
        return dist.all_gather(list(_tensor(everyones)), _tensor(mine), group=self._group, async_op=True)

    def all_gather_small(self, mine: np.ndarray) -> np.ndarray:
        everyones = np.empty((self.size, mine.size))
        self.wait([self.start_gather(mine, everyones)])
        return everyones

    def all_gather_object(self, x: Any) -> list[Any]:
        made: list[Any] = [None] * self.size
        dist.all_gather_object(made, x, group=self._group)
        return made

    def broadcast(self, x: Any, root: int = 0) -> None:
        dist.broadcast(_tensor(x), dist.get_global_rank(self._group, root), group=self._group)

    def barrier(self) -> None:
        dist.barrier(group=self._group)

    def reduce_scatter(self, full: Any, shard: Any) -> None:
        dist.reduce_scatter(_tensor(shard), list(_tensor(full).chunk(self.size)), group=self._group)

    def all_gather(self, shard: Any, full: Any) -> None:
        dist.all_gather(list(_tensor(full).chunk(self.size)), _tensor(shard), group=self._group)


def _tensor(x: Any) -> Any:
    """A tensor on the memory of an array."""
    if not isinstance(x, np.ndarray):
        return torch.as_tensor(x)  # device arrays, by __cuda_array_interface__
    if not x.flags.writeable:  # a tensor that is only sent from; PyTorch would warn
        memory: Any = (ctypes.c_char * x.nbytes).from_address(x.ctypes.data)
        x = np.ndarray(x.shape, x.dtype, memory)
    return torch.from_numpy(x)
