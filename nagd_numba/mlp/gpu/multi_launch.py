"""Training steps on a device, for networks of any size: a dozen launches a step, none of which the host waits for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...gpu import driver
from ...gpu.device_array import DeviceMemory
from ...kernels.jit import plain
from ..dropout import splitmix
from ..plan import Plan
from ..spec import NetworkSpec
from .passes import Network, Source, Space


class Results(NamedTuple):
    """Addresses of `sums.Records` on the device; 0 where there is none."""

    losses: int
    measures: int = 0
    squares: int = 0


class Steps:
    """The steps of `engine.steps`, to the last bit."""

    def __init__(
        self,
        spec: NetworkSpec,
        plan: Plan,
        params: int,
        vel: int,
        X: DeviceMemory,
        y: DeviceMemory,
        weights: DeviceMemory | None,
        scale: float,
        rows_per_batch: int,
        device: int,
        stream: Any,
    ) -> None:
        self.spec, self.plan, self.vel = spec, plan, vel
        self.X, self.y, self.weights, self.scale = X, y, weights, scale
        self.batch, self.device, self.stream = rows_per_batch, device, stream
        self.fused = plan.accumulate == 1 and plan.clip == np.inf
        here = driver.current()
        space = Space(spec, rows_per_batch, grads=not self.fused)
        self._memory = here.empty(space.size, spec.dtype, device)
        self.network = Network(spec, device, params, space, _address(self._memory))
        self._ranges = here.upload(self.network.ranges(), device)
        self._whole = _address(self._ranges) + 16 * len(self.network.layers)

    def run(
        self,
        order: int,
        n: int,
        first: int,
        last: int,
        hyper: np.ndarray,
        numbers: np.ndarray,
        words: np.ndarray,
        results: Results,
        group_weights: np.ndarray | None = None,
    ) -> None:
        """Steps `first` to `last` of an epoch over the n rows at the address `order`; see `engine.steps`.

        With weights, `group_weights` has the sum of the weights for each update: `sums.group_weights`.
        """
        spec, plan, network = self.spec, self.plan, self.network
        scalar, rule = spec.dtype.type, (plan.rule, plan.options)
        updates = range(first // plan.accumulate, (last - 1) // plan.accumulate + 1)
        # All of them before the first launch: an unfit rate leaves the parameters alone.
        scalars = {u: plan.rule.scalars(tuple(map(float, hyper[u])), spec.dtype, plan.options) for u in updates}
        together = self.batch * plan.accumulate
        outputs, clip = float(numbers[7]), float(numbers[2])
        weights = 0 if self.weights is None else self.weights.pointer
        for s in range(first, last):
            begin, end = s * self.batch, min(n, (s + 1) * self.batch)
            update, rows = s // plan.accumulate, end - begin
            group_begin, group_end = update * together, min(n, (update + 1) * together)
            samples = float(group_end - group_begin) if group_weights is None else float(group_weights[update])
            samples = samples or 1.0  # every weight is 0, and so is the gradient
            decay = float(numbers[0]) / samples if numbers[1] != 0 else float(numbers[0])
            key = None
            if spec.dropout > 0:
                key = np.uint64(plain(splitmix)(int(words[0]), int(words[1]) + s))
            rows_here = order + 8 * begin
            x = Source(self.X.pointer, self.X.dtype, rows_here, self.scale)
            network.forward(self.stream, x, rows, network.at(network.space.z), key)
            network.losses(
                *(self.stream, rows, self.y.pointer, rows_here, scalar(float(numbers[4]) / (samples * outputs))),
                *(results.losses + 8 * begin, results.measures and results.measures + 24 * begin, weights),
            )
            network.backward(self.stream, rows, key)
            if decay != 0:
                network.squares(self.stream, _address(self._ranges), results.squares + 8 * s)
            if self.fused:
                network.gradients(self.stream, x, rows, self.vel, scalar(decay), scalars[update], rule)
                continue
            more = begin > group_begin
            added, grads = scalar(0 if more else decay), network.at(network.space.grads)
            network.gradients(self.stream, x, rows, grads, added, (np.int64(more),))
            if end == group_end:
                network.apply(self.stream, rule, self.vel, self._whole, clip, scalars[update])


def _address(array: Any) -> int:
    return int(array.__cuda_array_interface__["data"][0])
