"""Loss and metrics of networks over rows of the data, on a device, without dropout and penalty, with the CPU's bits."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...gpu import driver
from ..losses import LOSSES
from ..plan import Plan
from ..spec import NetworkSpec, terms
from ..sums import ABSOLUTE, HIT, LOSS, PART, SQUARE, SUMS, WEIGHT
from .host_sums import chains, group_weights
from .passes import Network, Source, Space
from .step_records import StepRecords
from .training_data import Buffers, DeviceData, address_of

MEMORY = 1 << 26  # bytes, about, for what lies between the passes


class DeviceEvaluation:
    """Evaluates `networks` networks, one after the other at the address `params`, on these rows.

    The passes are launched for some thousands of rows at a time; the losses of the rows come to the host, which adds
    them up.  Networks with `precision="tf32"` are evaluated in float32.
    """

    def __init__(
        self, spec: NetworkSpec, plan: Plan, params: int, networks: int, data: DeviceData, rows: np.ndarray, stream: Any
    ) -> None:
        self._spec, self._plan, self._data, self._stream = spec, plan, data, stream
        self._networks, self._rows = networks, len(rows)
        self._weights = None if len(data.host_weights) == 0 else data.host_weights[rows][None]
        self._driver = here = driver.current()
        self._buffers = Buffers(data.device, stream)
        self._event = here.event(data.device)
        with here.inside(data.device):
            order = self._buffers.upload("order", rows.astype(np.int64))
        losses = self._buffers.empty("losses", (networks, len(rows)))
        measures = self._buffers.empty("measures", (networks, len(rows), 3)) if plan.measure else None
        exact = dataclasses.replace(spec, precision="float32")
        each = self._rows_at_once(exact)
        space = Space(exact, each, here.multiprocessors(data.device))
        self._space = here.empty(space.size, exact.dtype, data.device, stream=stream)
        size = spec.size * spec.dtype.itemsize
        self._calls = -(-len(rows) // each)
        self._records = []
        for m in range(networks):
            network = Network(exact, data.device, params + m * size, space, address_of(self._space))
            made = StepRecords(0, data.device)
            full = len(rows) // each
            for calls in (np.arange(full), np.arange(full, self._calls)):  # the last may have fewer rows
                if len(calls):
                    count = min(each, len(rows) - int(calls[0]) * each)
                    begin = calls * each
                    x = Source(data.X.pointer, data.X.dtype, order + 8 * begin, data.scale)
                    place = m * len(rows) + begin
                    start = made.of(calls)
                    network.forward(start, x, count, network.at(network.space.z), None)
                    network.losses(
                        *(start, count, data.y.pointer, order + 8 * begin, exact.dtype.type(1), losses + 8 * place),
                        None if measures is None else measures + 24 * place,
                    )
            self._records.append(made.finish())

    def _rows_at_once(self, spec: NetworkSpec) -> int:
        each = Space(spec, PART, multiprocessors=1).size * spec.dtype.itemsize
        return PART * max(1, min(-(-self._rows // PART), MEMORY // each))

    def __call__(self) -> np.ndarray:
        """The sums of `metrics.described` of the parameters as they are now, for each network."""
        with self._driver.inside(self._data.device):
            for records in self._records:
                records.start(0, self._calls, self._stream)
            losses = self._buffers.fetch("losses")
            measures = self._buffers.fetch("measures") if self._plan.measure else None
            self._driver.mark(self._event, self._stream)
            self._driver.wait(self._event)
        return self._sums(losses, measures)

    def _sums(self, losses: np.ndarray, measures: np.ndarray | None) -> np.ndarray:
        coupled, weights = LOSSES[self._spec.loss].coupled, self._weights
        each: Any = 1.0 if weights is None else np.asarray(weights, np.float64)
        results = np.zeros((-(-self._rows // PART), self._networks, SUMS))  # of each part, as on the CPU
        results[..., LOSS] = chains(each * losses, PART).T
        results[..., WEIGHT] = group_weights(weights, self._rows, PART).T
        if measures is not None:
            for column, slot in enumerate((HIT, ABSOLUTE, SQUARE)[: 1 if coupled else 3]):
                results[..., slot] = chains(each * measures[..., column], PART).T
        sums = np.asarray(results.sum(axis=0))
        sums[:, LOSS] /= terms(self._spec)
        return sums
