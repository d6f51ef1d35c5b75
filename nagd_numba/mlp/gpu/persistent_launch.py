"""Launches of the persistent kernel: many steps of all networks in one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...gpu import driver
from ...kernels.cuda_launch import ARGUMENTS
from . import persistent
from .training_data import Buffers, Epoch, Job, address_of

FIRST, LAST = 9, 10  # which arguments of the kernel are the first step and the last


class PersistentLaunch:
    """The steps of some networks, each in a thread block of its own."""

    def __init__(self, job: Job) -> None:
        spec, plan, data = job.spec, job.plan, job.data
        here = driver.current()
        shared = shared_bytes(job)
        kernel = persistent.kernel(
            *(spec.dtype_name, data.X.dtype, spec.activation, spec.loss, spec.dropout > 0),
            *(data.weights is not None, plan.measure, plan.rule, plan.options),
        )
        self.job, self._driver = job, here
        self._loaded = here.load(kernel, data.device, shared)
        self._configuration = here.configuration(job.networks, persistent.THREADS, shared)
        self._sizes = here.upload(np.array(spec.sizes, np.int64), data.device, stream=job.stream)
        self._buffers = Buffers(data.device, job.stream)
        self._epoch: Epoch | None = None

    def of_epoch(self, epoch: Epoch) -> Callable[[int, int], None]:
        """What starts steps `first` to `last` of an epoch."""
        job, spec = self.job, self.job.spec
        if self._epoch is None or epoch.table is not self._epoch.table:  # else they are there
            self._buffers.upload("rates", epoch.table.rows())
        if self._epoch is None or spec.dropout > 0:
            seeds = np.empty((job.networks, 2), np.uint64)
            seeds[:, persistent.SEED], seeds[:, persistent.FIRST_STEP] = epoch.seeds, epoch.first_step
            self._buffers.upload("seeds", seeds)
        if self._epoch is None or not self._epoch.lies_as(epoch):
            self._record = self._new_record(epoch)
        self._epoch, record = epoch, self._record

        def start_steps(first: int, last: int) -> None:
            record[ARGUMENTS + FIRST], record[ARGUMENTS + LAST] = first, last
            self._driver.start(job.stream, record)

        return start_steps

    def _new_record(self, epoch: Epoch) -> np.ndarray:
        """The launch, but for the first and the last step."""
        job, spec, data = self.job, self.job.spec, self.job.data
        scalar, steps = spec.dtype.type, np.int64(0)
        return np.asarray(
            self._driver.record(
                *(self._loaded, data.device, self._configuration),
                *(job.params, job.vel, np.int64(spec.size)),
                *(data.X.pointer, data.y.pointer, 0 if data.weights is None else data.weights.pointer),
                *(scalar(data.scale), epoch.order, np.int64(epoch.n), steps, steps),
                *(np.int64(job.plan.batch), address_of(self._sizes), np.int64(len(spec.sizes) - 1)),
                *(self._buffers.address("rates"), self._buffers.address("seeds")),
                *(scalar(1.0 / (1.0 - spec.dropout)), scalar(1.0 - spec.dropout), spec.threshold, *epoch.records),
            )
        )


def fits(job: Job) -> bool:
    """Can the persistent kernel train these networks?"""
    plan = job.plan
    exact = job.spec.precision != "tf32" and plan.accumulate == 1 and plan.clip == math.inf
    return exact and shared_bytes(job) <= driver.current().shared_limit(job.data.device)


def shared_bytes(job: Job) -> int:
    """The shared memory of a thread block."""
    rows = min(job.plan.batch, job.data.X.shape[0])
    elements = persistent.SharedMemory.of(job.spec.sizes, rows, len(job.plan.rule.states)).total
    return elements * job.spec.dtype.itemsize
