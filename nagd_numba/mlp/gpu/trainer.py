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
RECORDS = "losses", "measures", "squares"


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
        self._trained = [x for x in (params, vel) if x.size > 0]
        self._kept: list[Any] = []  # memory for copies of these,
        self._copies: list[tuple[int, int, int]] = []  # where it is, where they are, and their bytes
        self._events = [self._driver.event(data.device) for _ in range(2)]
        self._table: tuple[int, np.ndarray, StepTable] | None = None  # of so many rows, and of these rates
        self._heard = 0.0  # when an epoch was last waited for
        self.launched = 0  # steps of the epoch that was last started

    def epoch(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Train over the rows in `order`; as `Trainer.epoch`."""
        return self.start(order, hyper, seed, first_step, on_call).sums()

    def start(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> StartedEpoch:
        """The same, but its last call goes on while the host does something else; at most two epochs at a time."""
        self.launched = 0
        with self._driver.inside(self.data.device):
            return self._start(order, hyper, seed, first_step, on_call)

    def _start(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None,
    ) -> StartedEpoch:
        count, n = max(self.networks, 1), order.shape[-1]
        steps = self.plan.steps(n)
        orders = order.reshape(count, n)
        weights = self.data.weights_of(orders)
        # Before the first launch: hyper-parameters out of range leave the parameters alone.
        table = self._table_of(n, weights, hyper)
        shapes = (count, n), (count, n, 3) if self.plan.measure else (1,), (count, steps)
        where = RecordAddresses(*(self._buffers.empty(*named) for named in zip(RECORDS, shapes, strict=True)))
        seeds = np.empty(count, np.uint64)
        seeds[:] = seed
        epoch = Epoch(
            self._buffers.upload("order", orders.astype(np.int64, copy=False)), n, table, seeds, first_step, where
        )
        start_steps = self._steps.of_epoch(epoch)
        first, start = 0, time.perf_counter()
        while True:
            last = min(steps, first + max(1, int(CALL_SECONDS / self._seconds)))
            start_steps(first, last)
            self.launched = last
            if last == steps:
                break
            self._driver.synchronize(self.data.device, self._stream)
            self._took(start, last - first)
            first, start = last, time.perf_counter()
            if on_call is not None:
                on_call(first)
        spec, plan = self.spec, self.plan
        losses, measures, squares = RECORDS
        found = Records(
            self._buffers.fetch(losses),
            self._buffers.fetch(measures) if plan.measure else None,
            self._buffers.fetch(squares) if spec.l2 != 0 else None,
        )
        self._events.reverse()
        self._driver.mark(self._events[0], self._stream)
        return StartedEpoch(self, found, n, table, weights, start, last - first, self._events[0], on_call)

    def short(self, n: int) -> bool:
        """Is an epoch over n rows so short that two may be under way when somebody interrupts?"""
        return 2 * self.plan.steps(n) * self._seconds <= CALL_SECONDS

    def keep(self) -> bool:
        """Remember the parameters and the states behind everything that was started, if there is memory for that."""
        if not self._kept:
            device, stream = self.data.device, self._stream
            try:
                self._kept = [self._driver.empty(x.size, x.dtype, device, stream=stream) for x in self._trained]
            except MemoryError:
                return False
            self._copies = [
                (address_of(kept), x.pointer, x.size * x.itemsize)
                for kept, x in zip(self._kept, self._trained, strict=True)
            ]
        with self._driver.inside(self.data.device):
            for kept, place, size in self._copies:
                self._driver.copy(kept, place, size, self._stream)
        return True

    def go_back(self) -> None:
        """Make what was last remembered the parameters and the states again."""
        with self._driver.inside(self.data.device):
            for kept, place, size in self._copies:
                self._driver.copy(place, kept, size, self._stream)
        self.finish()

    def finish(self) -> None:
        """Wait for everything that was started."""
        self._driver.synchronize(self.data.device, self._stream)

    def _table_of(self, n: int, weights: np.ndarray | None, hyper: np.ndarray) -> StepTable:
        """What the steps need: as much of that of the epoch before as does not differ."""
        rates = hyper.reshape(max(self.networks, 1), -1, len(self.plan.rule.hyper))
        if self._table is not None and weights is None and self._table[0] == n:
            _, before, table = self._table
            if before is hyper or np.array_equal(before, hyper):
                return table
            table = table.updating(self.spec, self.plan, n, rates)
        else:
            table = StepTable.of(self.spec, self.plan, n, weights, rates)
        self._table = n, hyper.copy() if hyper.flags.writeable else hyper, table
        return table

    def _took(self, start: float, steps: int) -> None:
        now = time.perf_counter()
        self._seconds = max(1e-7, (now - max(start, self._heard)) / steps)
        self._heard = now

    def _wait(self, started: StartedEpoch) -> None:
        with self._driver.inside(self.data.device):
            self._driver.wait(started.event)
        self._took(started.begun, started.calls)


class StartedEpoch:
    """An epoch whose last steps are under way, or done."""

    def __init__(
        self,
        trainer: DeviceTrainer,
        records: Records,
        n: int,
        table: StepTable,
        weights: np.ndarray | None,
        begun: float,
        calls: int,
        event: Any,
        on_call: Callable[[int], None] | None,
    ) -> None:
        self._trainer, self._records, self._n = trainer, records, n
        self._table, self._weights, self._on_call = table, weights, on_call
        self.begun, self.calls, self.event = begun, calls, event

    def sums(self) -> np.ndarray:
        """Wait for the steps; the sums of `metrics.described`."""
        trainer = self._trainer
        trainer._wait(self)
        spec, plan = trainer.spec, trainer.plan
        if self._on_call is not None:
            self._on_call(plan.steps(self._n))
        factor, coupled = plan.normalization.loss_factor, LOSSES[spec.loss].coupled
        sums = host_sums(self._records, self._n, plan.batch, factor, self._table.decays, coupled, self._weights)
        return sums if trainer.networks else sums[0]
