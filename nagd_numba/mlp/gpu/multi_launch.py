"""Training steps on a device, for networks of any size: a dozen launches a step, none of which the host waits for."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...gpu import driver
from ...kernels.jit import plain
from ..dropout import splitmix
from .passes import Network, Source, Space
from .training_data import Epoch, Job, address_of


class MultiLaunch:
    """The steps of some networks, one network after the other."""

    def __init__(self, job: Job) -> None:
        itemsize, states = job.spec.dtype.itemsize, len(job.plan.rule.states)
        size = job.spec.size * itemsize
        self.networks = [
            NetworkSteps(job, m, job.params + m * size, job.vel + m * states * size) for m in range(job.networks)
        ]

    def of_epoch(self, epoch: Epoch) -> Callable[[int, int], None]:
        """What starts steps `first` to `last` of an epoch."""

        def start_steps(first: int, last: int) -> None:
            for steps in self.networks:
                steps.run(epoch, first, last)

        return start_steps


class NetworkSteps:
    """The steps of network `m` of a job, at the addresses `params` and `vel`."""

    def __init__(self, job: Job, m: int, params: int, vel: int) -> None:
        spec, plan, device = job.spec, job.plan, job.data.device
        self.job, self.m, self.vel = job, m, vel
        self.fused = plan.accumulate == 1 and plan.clip == math.inf  # each gradient is given to the rule at once
        rows = min(plan.batch, job.data.X.shape[0])
        here = driver.current()
        space = Space(spec, rows, grads=not self.fused)
        self._memory = here.empty(space.size, spec.dtype, device)
        self.network = Network(spec, device, params, space, address_of(self._memory))
        self._ranges = here.upload(self.network.ranges(), device)
        self._whole = address_of(self._ranges) + 16 * len(self.network.layers)

    def run(self, epoch: Epoch, first: int, last: int) -> None:
        """Start steps `first` to `last` of an epoch."""
        spec, plan, data, stream, network = self.job.spec, self.job.plan, self.job.data, self.job.stream, self.network
        scalar, rule, n, table = spec.dtype.type, (plan.rule, plan.options), epoch.n, epoch.tables[self.m]
        order = epoch.order + 8 * self.m * n
        losses, squares = epoch.records.losses + 8 * self.m * n, epoch.records.squares + 8 * self.m * plan.steps(n)
        measures = epoch.records.measures + 24 * self.m * n
        weights = 0 if data.weights is None else data.weights.pointer
        for s in range(first, last):
            begin, end = s * plan.batch, min(n, (s + 1) * plan.batch)
            rows, update, decay = end - begin, s // plan.accumulate, table.decays[s]
            key = None
            if spec.dropout > 0:
                key = np.uint64(plain(splitmix)(int(epoch.seeds[self.m]), epoch.first_step + s))
            x = Source(data.X.pointer, data.X.dtype, order + 8 * begin, data.scale)
            network.forward(stream, x, rows, network.at(network.space.z), key)
            network.losses(
                *(stream, rows, data.y.pointer, order + 8 * begin, scalar(table.factors[s]), losses + 8 * begin),
                *(measures + 24 * begin if plan.measure else 0, weights),
            )
            network.backward(stream, rows, key)
            if decay != 0:
                network.squares(stream, address_of(self._ranges), squares + 8 * s)
            constants = table.constants[update]
            if self.fused:
                network.updates(stream, x, rows, self.vel, scalar(decay), rule, constants)
                continue
            more = s % plan.accumulate > 0
            added, grads = scalar(0 if more else decay), network.at(network.space.grads)
            network.gradients(stream, x, rows, grads, added, more)
            if s + 1 == plan.steps(n) or (s + 1) % plan.accumulate == 0:
                network.apply(stream, rule, self.vel, self._whole, plan.clip, constants)
