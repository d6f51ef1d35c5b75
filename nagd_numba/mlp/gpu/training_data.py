"""What a training on a device works on: the samples, the networks, and the inputs of an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...gpu import driver
from ...gpu.device_array import DeviceMemory
from ..plan import Plan
from ..spec import NetworkSpec
from .step_table import StepTable


@dataclass(frozen=True)
class DeviceData:
    """Samples in a device's memory, and what the host needs to know of them."""

    X: DeviceMemory
    y: DeviceMemory
    weights: DeviceMemory | None
    host_weights: np.ndarray
    scale: float
    device: int

    def weights_of(self, order: np.ndarray) -> np.ndarray | None:
        """The weights of these rows, or None where they have none."""
        return self.host_weights[order] if len(self.host_weights) else None


@dataclass(frozen=True)
class Job:
    """`networks` networks, one after the other at the addresses `params` and `vel`, with what trains them."""

    spec: NetworkSpec
    plan: Plan
    params: int
    vel: int  # of each network its states, one after the other
    networks: int
    data: DeviceData
    stream: Any


class RecordAddresses(NamedTuple):
    """Addresses of `host_sums.Records`: one behind the other for all networks."""

    losses: int
    measures: int
    squares: int


class Epoch(NamedTuple):
    """The inputs of an epoch over n rows."""

    order: int  # the address of the rows' numbers, n for each network
    n: int
    table: StepTable
    seeds: np.ndarray  # of each network's dropout, uint64
    first_step: int  # the number of the epoch's first step, counted through all epochs
    records: RecordAddresses

    def launches_as(self, other: Epoch) -> bool:
        """Does another epoch launch the same, but for the dropout and the rule's constants?"""
        return self.lies_as(other) and self.table.weighs_as(other.table)

    def lies_as(self, other: Epoch) -> bool:
        """Has another epoch as many rows, and are its inputs and records where those of this one are?"""
        return (self.order, self.n, self.records) == (other.order, other.n, other.records)


class Buffers:
    """Memory of a device that is used again for every epoch, by name, with page-locked memory of the host beside it.

    Copies are in the order of the stream, and the host does not wait for them: what it gives or is given is one of two
    arrays, which the next but one copy of that name uses again.
    """

    def __init__(self, device: int, stream: Any) -> None:
        self._driver, self._device, self._stream = driver.current(), device, stream
        self._arrays: dict[str, Any] = {}
        self._described: dict[str, tuple[tuple[int, ...], Any, int]] = {}  # shape, dtype, address
        self._pinned: dict[str, list[tuple[np.ndarray, int]]] = {}  # and their addresses

    def upload(self, name: str, x: np.ndarray) -> int:
        """The address of a copy of `x`; called in a block of `inside`, as `fetch` is."""
        address = self.empty(name, x.shape, x.dtype)
        staged, source = self._next(name)
        staged[...] = x
        self._driver.put(address, source, x.nbytes, self._stream)
        return address

    def empty(self, name: str, shape: tuple[int, ...], dtype: Any = np.float64) -> int:
        """The address of an array."""
        kept = self._described.get(name)
        if kept is None or kept[0] != shape:
            made = self._driver.empty(shape, dtype, self._device, stream=self._stream)
            kept = self._described[name] = shape, dtype, address_of(made)
            self._arrays[name], self._pinned[name] = made, []
        return kept[2]

    def address(self, name: str) -> int:
        return self._described[name][2]

    def fetch(self, name: str) -> np.ndarray:
        """What is there when everything so far on the stream is done, of which the caller has to hear."""
        out, to = self._next(name)
        self._driver.fetch(to, self.address(name), out.nbytes, self._stream)
        return out

    def _next(self, name: str) -> tuple[np.ndarray, int]:
        pair = self._pinned[name]
        if len(pair) < 2:
            shape, dtype, _ = self._described[name]
            memory = self._driver.pinned(shape, dtype, self._device)
            pair.append((memory, memory.ctypes.data))
        pair.reverse()
        return pair[0]


def address_of(array: Any) -> int:
    """Where a device array begins."""
    return int(array.__cuda_array_interface__["data"][0])
