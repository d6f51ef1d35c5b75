"""Drives the training of one network, or of many, in a device's memory: the counterpart of `..cpu.trainer.Trainer`.

Networks whose memory fits one multiprocessor are trained by the persistent kernel (`persistent.py`), many steps a
launch; any other by a few launches a step (`multi_launch.py`).  Both give the bits of the CPU.  With TF32 every network
takes the second way: which networks fit a multiprocessor differs between devices, and whether TF32 is used must not;
and the products of the persistent kernel are small, so its time is latency rather than arithmetic.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ...gpu import driver
from ...gpu.device_array import DeviceMemory
from ...kernels.autotune import CALL_SECONDS
from ..losses import LOSSES
from ..plan import Plan
from ..spec import NetworkSpec
from . import persistent_launch
from .host_sums import Records, host_sums
from .multi_launch import MultiLaunch
from .persistent_launch import PersistentLaunch
from .step_table import StepTable
from .training_data import Buffers, DeviceData, Epoch, Job, RecordAddresses, address_of

GUESS = 2e-5  # seconds of a step, beside its arithmetic, before one was timed


class DeviceTrainer:
    """The kernels and the memory to train networks whose parameters lie one after the other in a device's memory.

    `networks` is their number, or 0 for one network (whose `order`, `hyper` and `seed` have no first dimension).
    """

    def __init__(
        self,
        spec: NetworkSpec,
        params: DeviceMemory,
        vel: DeviceMemory,
        data: DeviceData,
        plan: Plan,
        networks: int,
        stream: Any,
    ) -> None:
        self.spec, self.plan, self.data, self.networks = spec, plan, data, networks
        self._stream = stream
        self._driver = driver.current()
        self._seconds = GUESS + 6.0 * min(plan.batch, data.X.shape[0]) * spec.size / 1e12
        job = Job(spec, plan, params.pointer, vel.pointer, max(networks, 1), data, stream)
        self.persistent = persistent_launch.fits(job)
        self._steps = PersistentLaunch(job) if self.persistent else MultiLaunch(job)
        self._buffers = Buffers(data.device, stream)

    def epoch(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Train over the rows in `order`; as `Trainer.epoch`."""
        count, n = max(self.networks, 1), order.shape[-1]
        steps = self.plan.steps(n)
        orders = np.ascontiguousarray(order.reshape(count, n), np.int64)
        rates = hyper.reshape(count, -1, len(self.plan.rule.hyper))
        tables = [
            StepTable.of(self.spec, self.plan, n, self._weights(orders[m]), rates[m]) for m in range(count)
        ]  # before the first launch: hyper-parameters out of range leave the parameters alone
        records = [
            self._buffers.empty("losses", (count, n)),
            self._buffers.empty("measures", (count, n, 3)),
            self._buffers.empty("squares", (count, steps)),
        ]
        seeds = np.empty(count, np.uint64)
        seeds[:] = seed
        where = RecordAddresses(*map(address_of, records))
        epoch = Epoch(self._buffers.upload("order", orders), n, tables, seeds, first_step, where)
        start_steps = self._steps.of_epoch(epoch)
        first = 0
        while first < steps:
            last = min(steps, first + max(1, int(CALL_SECONDS / self._seconds)))
            start = time.perf_counter()
            start_steps(first, last)
            self._driver.synchronize(self.data.device, self._stream)
            self._seconds = max(1e-7, (time.perf_counter() - start) / (last - first))
            first = last
            if on_call is not None:
                on_call(first)
        found = [self._driver.download(x) for x in records]
        sums = np.stack([self._sums(orders[m], tables[m], Records(*(x[m] for x in found))) for m in range(count)])
        return sums if self.networks else sums[0]

    def _sums(self, order: np.ndarray, table: StepTable, records: Records) -> np.ndarray:
        spec, plan = self.spec, self.plan
        kept = records._replace(
            measures=records.measures if plan.measure else None, squares=records.squares if spec.l2 != 0 else None
        )
        return host_sums(
            *(kept, len(order), plan.batch, plan.normalization.loss_factor, table.decays),
            *(LOSSES[spec.loss].labels, self._weights(order)),
        )

    def _weights(self, order: np.ndarray) -> np.ndarray | None:
        """The weights of these rows, or None where they have none."""
        return self.data.host_weights[order] if len(self.data.host_weights) else None
