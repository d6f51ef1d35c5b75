"""Training with rules whose parameters lie between two points: `y` in the epochs, `x` between them.

At the end of an epoch the parameters become the point `x` that is evaluated, kept and returned, and at the beginning of
the next one the point `y` where gradients are taken, as the reference's `eval()` and `train()` do around a validation.
So what an epoch begins with is what the last one left to everybody else, and a training that goes on after a break has
the bits of one without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..optimizers.schedule_free import interpolate, schedule_free_eval, schedule_free_train
from .plan import Plan


class Interpolated:
    """A trainer of such a rule: between its epochs the parameters are `x`."""

    def __init__(self, trainer: Any, points: list[tuple[Any, Any]], stream: Any, collect: Callable[[], Any] | None):
        """`points` are the parameters and `z` of each network; `collect` brings `z` up to date on many ranks."""
        self._trainer, self._points, self._stream, self._collect = trainer, points, stream, collect
        self.plan: Plan = trainer.plan
        assert self.plan.rule.interpolated is not None
        self._momentum = list(self.plan.rule.hyper).index(self.plan.rule.interpolated[1])

    def epoch(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """As `Trainer.epoch`."""
        if first_step == 0:  # then `x` and `y` are the same, and the first step makes `z` equal to them
            for params, z in self._points:
                interpolate(z, params, 1.0, self._stream)
        else:
            self._move(schedule_free_train, hyper)
        try:
            sums: np.ndarray = self._trainer.epoch(order, hyper, seed, first_step, on_call)
        except BaseException:
            if self._collect is None:  # other ranks may not be at this place
                self._move(schedule_free_eval, hyper)
            raise
        if self._collect is not None:
            self._collect()
        self._move(schedule_free_eval, hyper)
        return sums

    def _move(self, way: Callable[..., Any], hyper: np.ndarray) -> None:
        of_each = hyper.reshape(len(self._points), -1, hyper.shape[-1])[:, 0, self._momentum].tolist()
        for (params, z), momentum in zip(self._points, of_each, strict=True):
            way(params, z, momentum, stream=self._stream)


def evaluated(
    trainer: Any, params: Any, states: Any, stream: Any = None, collect: Callable[[], Any] | None = None
) -> Any:
    """The trainer, in an `Interpolated` where its rule is such a one.

    `params` and `states` are what it trains: arrays, or descriptions of device memory; a row for each of many networks.
    """
    rule = trainer.plan.rule
    if rule.interpolated is None:
        return trainer
    size, at = params.shape[-1], rule.states.index(rule.interpolated[0])
    networks, row = (params.shape[0], states.shape[-1]) if len(params.shape) == 2 else (1, 0)
    points: list[tuple[Any, Any]] = []
    for m in range(networks):
        if isinstance(params, np.ndarray):
            states_of = states.reshape(-1)[m * row :]
            points.append((params.reshape(-1)[m * size : (m + 1) * size], states_of[at * size : (at + 1) * size]))
        else:
            points.append((DevicePart(params, m * size, size), DevicePart(states, m * row + at * size, size)))
    return Interpolated(trainer, points, stream, collect)


class DevicePart:
    """Elements of an array on a device, as an array of their own."""

    def __init__(self, memory: Any, first: int, size: int) -> None:
        self._memory = memory  # `gpu.device_array.DeviceMemory`, which keeps its owner
        self.__cuda_array_interface__ = {
            "shape": (size,),
            "typestr": np.dtype(memory.dtype).str,
            "data": (memory.pointer + first * memory.itemsize, False),
            "version": 3,
        }
