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
    tables: list[StepTable]  # of each network
    seeds: np.ndarray  # of each network's dropout, uint64
    first_step: int  # the number of the epoch's first step, counted through all epochs
    records: RecordAddresses


class Buffers:
    """Memory of a device that is used again for every epoch, by name."""

    def __init__(self, device: int, stream: Any) -> None:
        self._driver, self._device, self._stream = driver.current(), device, stream
        self._arrays: dict[str, Any] = {}

    def upload(self, name: str, x: np.ndarray) -> int:
        """The address of a copy of `x`."""
        kept = self._arrays.get(name)
        if kept is None or tuple(kept.shape) != x.shape:
            kept = self._arrays[name] = self._driver.upload(x, self._device)
        else:
            self._driver.rewrite(kept, x, self._stream)
        return address_of(kept)

    def empty(self, name: str, shape: tuple[int, ...]) -> Any:
        """A device array of float64."""
        kept = self._arrays.get(name)
        if kept is None or tuple(kept.shape) != shape:
            kept = self._arrays[name] = self._driver.empty(shape, np.float64, self._device)
        return kept


def address_of(array: Any) -> int:
    """Where a device array begins."""
    return int(array.__cuda_array_interface__["data"][0])
