"""Training with an average of the parameters on a device: the counterpart of `..averages.AveragedBackend`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...gpu import device_array, driver
from ...gpu.device_array import DeviceMemory, describe
from ...optimizers.average import Average
from .. import arguments
from ..constants import with_weights
from ..plan import Plan
from ..spec import NetworkSpec
from .backend import DeviceBackend
from .ordering import wait_for
from .trainer import DeviceTrainer, StartedEpoch
from .training_data import DeviceData, address_of


class AveragedDeviceBackend(DeviceBackend):
    """A device's, with an average that the updates form and that is evaluated."""

    def __init__(self, spec: NetworkSpec, params: Any, vel: Any, many: bool, states: int, average: Average) -> None:
        super().__init__(spec, params, vel, many, states)
        value = describe("average", average.value, write=True, dtypes=None)
        arguments.average(spec, self._name, value.dtype, value.shape, self.params.shape)
        given = [("average", value), (self._name, self.params), ("vel", self.vel)]
        device_array.no_overlap(given)
        device_array.one_device(given)
        wait_for([average.value], self._stream, self.device)
        self.average, self.shown = average, value
        self.trained.append(("average", value))

    def _trainer(self, spec: NetworkSpec, data: DeviceData, plan: Plan) -> Any:
        """`plan` has the `averaged_rule`."""
        joined = Joined(self.vel, self.shown, self._states, self.networks, self.device, self._stream)
        trainer = DeviceTrainer(spec, self.params, joined.memory, data, plan, self.networks, self._stream)
        return AveragedDeviceTrainer(trainer, joined, self.average)


class Joined:
    """`vel` and the value of an average in one array: of each network its states, then its average.

    The copies are in the order of the stream.
    """

    def __init__(
        self, vel: DeviceMemory, value: DeviceMemory, states: int, networks: int, device: int, stream: Any
    ) -> None:
        self._driver, self._device, self._stream = driver.current(), device, stream
        own = value.size // max(networks, 1) * value.itemsize  # bytes of a network's average
        made = self._driver.empty((states + 1) * value.size, np.dtype(value.dtype), device, stream=stream)
        self.memory = describe("vel", made, write=True)
        self._parts: list[tuple[int, int, int]] = []  # the place in the array, the place outside, and the bytes
        for m in range(max(networks, 1)):
            here = address_of(made) + m * (states + 1) * own
            if states:
                self._parts.append((here, vel.pointer + m * states * own, states * own))
            self._parts.append((here + states * own, value.pointer + m * own, own))
        with self._driver.inside(device):
            for place, outside, size in self._parts:
                self._driver.copy(place, outside, size, stream)

    def copy_back(self) -> None:
        """Begin to copy both to where they came from."""
        with self._driver.inside(self._device):
            for place, outside, size in self._parts:
                self._driver.copy(outside, place, size, self._stream)


class AveragedDeviceTrainer:
    """A device's trainer of the `averaged_rule`, whose states are `joined`.

    `vel` and the value of the average are what they are in there after `epoch`, `finish` and `go_back`.  The steps of
    the average count when they are started: the weights of an epoch follow those of the one before, though that may be
    under way.
    """

    def __init__(self, trainer: DeviceTrainer, joined: Joined, average: Average) -> None:
        self._trainer, self._joined, self._average = trainer, joined, average
        self.plan = trainer.plan
        self._kept = average.steps

    def epoch(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """As `AveragedTrainer.epoch`."""
        try:
            return self.start(order, hyper, seed, first_step, on_call).sums()
        finally:
            self.finish()

    def start(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> StartedEpoch:
        """As `DeviceTrainer.start`; `hyper` is that of the rule without the average."""
        rates = with_weights(hyper, self._average)
        rates.flags.writeable = False  # so that it need not be copied to be compared with the next
        try:
            return self._trainer.start(order, rates, seed, first_step, on_call)
        except BaseException:
            self.finish()  # of an epoch that does not start nobody waits for the end
            raise
        finally:
            self._average.steps += self.plan.updates_of(self._trainer.launched, order.shape[-1])

    def short(self, n: int) -> bool:
        """As `DeviceTrainer.short`."""
        return self._trainer.short(n)

    def keep(self) -> bool:
        """As `DeviceTrainer.keep`."""
        self._kept = self._average.steps
        return self._trainer.keep()

    def go_back(self) -> None:
        """As `DeviceTrainer.go_back`."""
        self._average.steps = self._kept
        self._trainer.go_back()
        self.finish()

    def finish(self) -> None:
        """Wait for everything that was started, and for the copies behind it."""
        self._joined.copy_back()
        self._trainer.finish()
