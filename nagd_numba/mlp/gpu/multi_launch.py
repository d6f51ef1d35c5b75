"""Training steps on a device, for networks of any size: a dozen launches a step, prepared for a whole epoch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...gpu import driver
from ..dropout import splitmix_each
from .passes import Network, Source, Space
from .step_records import StepRecords
from .training_data import Epoch, Job, address_of

PREPARED = 2048  # steps of all networks whose launches are prepared at once,
KEPT = 4  # and how many times as many are kept


class MultiLaunch:
    """The steps of some networks, one network after the other."""

    def __init__(self, job: Job) -> None:
        itemsize, states = job.spec.dtype.itemsize, len(job.plan.rule.states)
        size = job.spec.size * itemsize
        self._stream, self._dropout, self._accumulate = job.stream, job.spec.dropout > 0, job.plan.accumulate
        self.networks = [
            NetworkSteps(job, m, job.params + m * size, job.vel + m * states * size) for m in range(job.networks)
        ]
        self._each = max(1, PREPARED // max(job.networks, 1))  # steps prepared at once
        self._epoch: Epoch | None = None
        self._kept: dict[int, list[StepRecords]] = {}

    def of_epoch(self, epoch: Epoch) -> Callable[[int, int], None]:
        """What starts steps `first` to `last` of an epoch."""
        before, self._epoch = self._epoch, epoch
        if self._dropout or before is None or not before.launches_as(epoch):
            self._kept.clear()
        elif before.table is not epoch.table:
            for parts in self._kept.values():
                for m, records in enumerate(parts):
                    records.change(epoch.table.constants[m], self._accumulate)

        def start_steps(first: int, last: int) -> None:
            while first < last:
                part = first // self._each
                stop = min(last, (part + 1) * self._each)
                for records in self._records(epoch, part):
                    records.start(first, stop, self._stream)
                first = stop

        return start_steps

    def _records(self, epoch: Epoch, part: int) -> list[StepRecords]:
        """The launches of each network in a part of the steps, which may be those of the epoch before."""
        if part not in self._kept:
            if len(self._kept) == KEPT:
                self._kept.clear()
            first = part * self._each
            self._kept[part] = [steps.records(epoch, first, first + self._each) for steps in self.networks]
        return self._kept[part]


class NetworkSteps:
    """The steps of network `m` of a job, at the addresses `params` and `vel`."""

    def __init__(self, job: Job, m: int, params: int, vel: int) -> None:
        spec, plan, device = job.spec, job.plan, job.data.device
        self.job, self.m, self.vel = job, m, vel
        self.fused = plan.accumulate == 1 and plan.clip == math.inf  # each gradient is given to the rule at once
        rows = min(plan.batch, job.data.X.shape[0])
        here = driver.current()
        space = Space(spec, rows, here.multiprocessors(device), grads=not self.fused)
        self._memory = here.empty(space.size, spec.dtype, device, stream=job.stream)
        self.network = Network(spec, device, params, space, address_of(self._memory))
        self._ranges = here.upload(self.network.ranges(), device, stream=job.stream)
        self._whole = address_of(self._ranges) + 16 * len(self.network.layers)

    def records(self, epoch: Epoch, first: int, last: int) -> StepRecords:
        """The launches of steps `first` to `last` (or to the last one) of an epoch."""
        full, last = epoch.n // self.job.plan.batch, min(last, self.job.plan.steps(epoch.n))
        made = StepRecords(first, self.job.data.device)
        for some in (
            np.arange(first, min(full, last)),
            np.arange(max(first, full), last),
        ):  # the last batch may have fewer rows
            if len(some):
                self._record(made, epoch, some)
        return made.finish()

    def _record(self, made: StepRecords, epoch: Epoch, steps: np.ndarray) -> None:
        """Record steps whose batches have equally many rows."""
        spec, plan, data, network = self.job.spec, self.job.plan, self.job.data, self.network
        rule, n, batch = (plan.rule, plan.options), epoch.n, plan.batch
        rows = min(n, (int(steps[0]) + 1) * batch) - int(steps[0]) * batch
        begin = self.m * n + steps * batch
        order, losses = epoch.order + 8 * begin, epoch.records.losses + 8 * begin
        measures = epoch.records.measures + 24 * begin if plan.measure else None
        weights = 0 if data.weights is None else data.weights.pointer
        factors, decays, constants = (x[self.m] for x in epoch.table)
        factor, decay = factors[steps].astype(spec.dtype), decays[steps].astype(spec.dtype)
        key = None
        if spec.dropout > 0:
            key = splitmix_each(epoch.seeds[self.m : self.m + 1], epoch.first_step + steps)
        each = [*constants[steps // plan.accumulate].T.copy()]
        start = made.of(steps, each)
        x = Source(data.X.pointer, data.X.dtype, order, data.scale)
        network.forward(start, x, rows, network.at(network.space.z), key)
        network.losses(start, rows, data.y.pointer, order, factor, losses, measures, weights)
        network.backward(start, rows, key)
        if spec.l2 != 0:
            squares = epoch.records.squares + 8 * (self.m * plan.steps(n) + steps)
            network.squares(start, address_of(self._ranges), squares)
        if self.fused:
            network.updates(start, x, rows, self.vel, decay, rule, each)
            return
        more = steps % plan.accumulate > 0
        added, grads = np.where(more, 0, decay).astype(spec.dtype), network.at(network.space.grads)
        network.gradients(start, x, rows, grads, added, more)
        ends = steps[((steps + 1) % plan.accumulate == 0) | (steps + 1 == plan.steps(n))]
        if len(ends):
            each = [*constants[ends // plan.accumulate].T.copy()]
            network.apply(made.of(ends, each), rule, self.vel, self._whole, plan.clip, each)
