"""Drives the training of one network, or of many, in a device's memory: the counterpart of `..trainer.Trainer`.

A network whose memory fits one multiprocessor is trained by the resident kernel (`persistent.py`), many steps a launch;
any other by the general kernels (`general.py`), a few launches a step.  Both give the bits of the CPU.  With TF32 every
network takes the general kernels: which networks fit a multiprocessor differs between devices, and whether TF32 is
used must not; and the products of the resident kernel are small, so its time is latency rather than arithmetic.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...gpu import driver
from ...gpu.device_array import DeviceMemory
from ...kernels.autotune import CALL_SECONDS
from ..losses import LOSSES
from ..plan import Plan
from ..spec import NetworkSpec
from . import host_sums, persistent
from .multi_launch import Results, Steps

GUESS = 2e-5  # seconds of a step, beside its arithmetic, before one was timed


@dataclass(frozen=True)
class DeviceData:
    """Samples in a device's memory, and what the host needs to know of them."""

    X: DeviceMemory
    y: DeviceMemory
    weights: DeviceMemory | None
    host_weights: np.ndarray
    scale: float
    device: int


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
        self._params, self._vel, self._stream = params, vel, stream
        self._driver = driver.current()
        self._arrays: dict[str, Any] = {}
        rows = min(plan.batch, data.X.shape[0])
        self._seconds = GUESS + 6.0 * rows * spec.size / 1e12
        self._shared = persistent.Plan.of(spec.sizes, rows).total * spec.dtype.itemsize
        fused = plan.accumulate == 1 and plan.clip == np.inf
        exact = spec.precision != "tf32"
        self.resident = exact and fused and self._shared <= self._driver.shared_limit(data.device)
        if self.resident:
            kernel = persistent.kernel(
                *(spec.dtype_name, data.X.dtype, spec.activation, spec.loss, spec.dropout > 0),
                *(data.weights is not None, plan.measure, plan.rule, plan.options),
            )
            self._loaded = self._driver.load(kernel, data.device, self._shared)
            self._configuration = self._driver.configuration(max(networks, 1), persistent.THREADS, self._shared)
            self._sizes = self._driver.upload(np.array(spec.sizes, np.int64), data.device)
        else:
            size = spec.size * spec.dtype.itemsize
            self._general = [
                Steps(
                    spec,
                    plan,
                    params.pointer + m * size,
                    vel.pointer + m * size,
                    data.X,
                    data.y,
                    data.weights,
                    data.scale,
                    rows,
                    data.device,
                    stream,
                )
                for m in range(max(networks, 1))
            ]

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
        words = np.empty((count, 2), np.uint64)
        words[:, 0], words[:, 1] = seed, first_step
        place = self._place("order", orders)
        results = [
            self._space(name, shape)
            for name, shape in (("losses", (count, n)), ("measures", (count, n, 3)), ("squares", (count, steps)))
        ]
        run = self._resident_run if self.resident else self._general_run
        enqueue = run(orders, place, rates, words, [_address(x) for x in results])
        first = 0
        while first < steps:
            last = min(steps, first + max(1, int(CALL_SECONDS / self._seconds)))
            start = time.perf_counter()
            enqueue(first, last)
            self._driver.synchronize(self.data.device, self._stream)
            self._seconds = max(1e-7, (time.perf_counter() - start) / (last - first))
            first = last
            if on_call is not None:
                on_call(first)
        records = [self._driver.download(x) for x in results]
        made = [self._sums(orders[m], host_sums.Records(*(x[m] for x in records))) for m in range(count)]
        return np.stack(made) if self.networks else made[0]

    def _resident_run(
        self, orders: np.ndarray, order: int, rates: np.ndarray, words: np.ndarray, results: list[int]
    ) -> Callable[[int, int], None]:
        """What starts steps `first` to `last` of all networks."""
        spec, scalar, n = self.spec, self.spec.dtype.type, orders.shape[1]
        table = np.stack([self._rates(o, h) for o, h in zip(orders, rates, strict=True)])
        weights = 0 if self.data.weights is None else self.data.weights.pointer
        before = (
            *(self._params.pointer, self._vel.pointer, np.int64(spec.size)),
            *(self.data.X.pointer, self.data.y.pointer, weights, scalar(self.data.scale)),
            *(order, np.int64(n)),
        )
        after = (
            *(np.int64(self.plan.batch), _address(self._sizes), np.int64(len(spec.sizes) - 1)),
            *(self._place("rates", table), self._place("words", words)),
            *(scalar(1.0 / (1.0 - spec.dropout)), scalar(1.0 - spec.dropout), np.uint64(spec.threshold), *results),
        )

        def enqueue(first: int, last: int) -> None:
            launch, where = self._driver.launch, (self.data.device, self._stream, self._configuration)
            launch(self._loaded, *where, *before, np.int64(first), np.int64(last), *after)

        return enqueue

    def _general_run(
        self, orders: np.ndarray, order: int, rates: np.ndarray, words: np.ndarray, results: list[int]
    ) -> Callable[[int, int], None]:
        """The same, one network after the other."""
        spec, plan, n = self.spec, self.plan, orders.shape[1]
        numbers = np.zeros(8)
        numbers[:3] = spec.l2, plan.normalization.l2_by_samples, plan.clip
        numbers[4] = plan.normalization.gradient_factor
        numbers[7] = plan.normalization.gradient_divisor
        groups = [self._groups(o) for o in orders]
        per_row = 8 * n, 24 * n, 8 * self.plan.steps(n)

        def enqueue(first: int, last: int) -> None:
            for m, steps in enumerate(self._general):
                losses, measures, squares = (x + m * each for x, each in zip(results, per_row, strict=True))
                where = Results(losses, measures if plan.measure else 0, squares)
                steps.run(order + 8 * m * n, n, first, last, rates[m], numbers, words[m], where, groups[m])

        return enqueue

    def _sums(self, order: np.ndarray, records: host_sums.Records) -> np.ndarray:
        spec, plan = self.spec, self.plan
        labels = LOSSES[spec.loss].labels
        kept = records._replace(
            measures=records.measures if plan.measure else None, squares=records.squares if spec.l2 != 0 else None
        )
        decays = self._decays(self._samples(order))
        return host_sums.host_sums(
            kept, len(order), plan.batch, plan.normalization.loss_factor, decays, labels, self._weights(order)
        )

    def _weights(self, order: np.ndarray) -> np.ndarray | None:
        return self.data.host_weights[order] if len(self.data.host_weights) else None

    def _samples(self, order: np.ndarray) -> np.ndarray:
        """For each step, the weight of the rows that make its update together."""
        groups = self._groups(order)
        groups[groups == 0] = 1.0  # every weight is 0, and so is the gradient
        return np.repeat(groups, self.plan.accumulate)[: self.plan.steps(len(order))]

    def _groups(self, order: np.ndarray) -> np.ndarray:
        return host_sums.group_weights(self._weights(order), len(order), self.plan.batch * self.plan.accumulate)

    def _decays(self, samples: np.ndarray) -> np.ndarray:
        return self.spec.l2 / samples if self.plan.normalization.l2_by_samples else np.full(len(samples), self.spec.l2)

    def _rates(self, order: np.ndarray, hyper: np.ndarray) -> np.ndarray:
        """For each step: the factor of the slopes, the weight decay, the rule's constants."""
        spec, plan = self.spec, self.plan
        samples = self._samples(order)
        table = np.empty((len(samples), 2 + plan.rule.constant_count), spec.dtype)
        scaling = plan.normalization
        table[:, 0] = scaling.gradient_factor / (samples * scaling.gradient_divisor)
        table[:, 1] = self._decays(samples)
        distinct, which = np.unique(hyper[: len(samples)], axis=0, return_inverse=True)
        constants = [plan.rule.scalars(tuple(map(float, row)), spec.dtype, plan.options) for row in distinct]
        table[:, 2:] = np.array(constants, spec.dtype)[which.reshape(-1)]
        return table

    def _place(self, name: str, x: np.ndarray) -> int:
        """The address of a copy of `x` on the device, in memory that is used again."""
        kept = self._arrays.get(name)
        if kept is None or tuple(kept.shape) != x.shape:
            kept = self._arrays[name] = self._driver.upload(x, self.data.device)
        else:
            self._driver.rewrite(kept, x, self._stream)
        return _address(kept)

    def _space(self, name: str, shape: tuple[int, ...]) -> Any:
        kept = self._arrays.get(name)
        if kept is None or tuple(kept.shape) != shape:
            kept = self._arrays[name] = self._driver.empty(shape, np.float64, self.data.device)
        return kept


def _address(array: Any) -> int:
    return int(array.__cuda_array_interface__["data"][0])
