"""Training in a device's memory: the counterpart of `..backends.HostBackend`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...gpu import device_array, driver, streams
from ...gpu.device_array import EXACT, DeviceMemory, describe
from ...validation import finite, is_device_array, plain_tensor
from .. import arguments
from ..dataset import Split, samples, split
from ..plan import Plan
from ..spec import NetworkSpec
from . import tf32
from .trainer import DeviceTrainer
from .training_data import DeviceData


class DeviceBackend:
    """Parameters and states on a device.  Samples may be there or on the host, from where they are copied once.

    `vel` has the states of a rule one after the other: shape (states size,), or (networks, states size).
    """

    def __init__(self, spec: NetworkSpec, params: Any, vel: Any, many: bool, states: int = 1) -> None:
        self.spec = spec
        self._name = name = "params2d" if many else "params"
        check = arguments.matrix if many else arguments.vector
        self.params = describe(name, params, write=True)
        check(spec, name, np.dtype(self.params.dtype), self.params.shape)
        given = [(name, self.params)]
        shape = (*self.params.shape[:-1], states * spec.size)
        if vel is not None:
            given.append(("vel", describe("vel", vel, write=True)))
            arguments.states(spec, np.dtype(given[1][1].dtype), given[1][1].shape, shape)
        device_array.no_overlap(given)
        self._driver = driver.current()
        self.device = device_array.one_device(given)
        tf32.check(spec.precision, self.device)
        self._states = states
        self.networks = self.params.shape[0] if many else 0
        if vel is None:
            fresh = self._driver.upload(np.zeros(shape if states else 1, spec.dtype), self.device)
            given.append(("vel", describe("vel", fresh, write=True)))
        self.vel = given[1][1]
        self._stream = streams.stream_of(None, params, self.device)

    def split(self, X: Any, y: Any, weights: Any, validation: Any, seed: int) -> Split:
        """The samples, checked on the host with the parameters and states, and which of them train."""
        if isinstance(validation, tuple | list):
            validation = [self._on_host(x) for x in validation]
        given = (self._on_host(x) for x in (X, y, weights))
        parts = split(self.spec, samples(self.spec, *given), validation, seed)
        finite(self._name, self.values())
        finite("vel", self.states())
        if is_device_array(X):  # the host's copy is for the checks and for validation
            parts = parts._replace(data=dataclasses.replace(parts.data, X=X))
        return parts

    def _on_host(self, x: Any) -> Any:
        if x is None or not is_device_array(x):
            return x
        return self._driver.download(plain_tensor("X", x))

    def trainer(self, parts: Split, plan: Plan) -> DeviceTrainer:
        data = parts.data
        X, y = self._there("X", data.X), self._there("y", data.y)
        for name, x in ((self._name, self.params), ("vel", self.vel)):
            device_array.no_overlap([(name, x), ("X", X)])  # y and weights are copies
        device_array.one_device([("params", self.params), ("X", X), ("y", y)])
        weights = self._there("sample_weight", data.weights) if len(data.weights) else None
        there = DeviceData(X, y, weights, data.weights, data.scale, self.device)
        return DeviceTrainer(self.spec, self.params, self.vel, there, plan, self.networks, self._stream)

    def _there(self, name: str, x: Any) -> DeviceMemory:
        there = x if is_device_array(x) else self._driver.upload(x, self.device)
        return describe(name, there, write=False, dtypes=(*EXACT, "uint8", "int64"))

    def values(self) -> np.ndarray:
        """The parameters as they are now, in host memory."""
        return self._driver.download(self.params.owner)

    def states(self) -> np.ndarray:
        """The states of the optimizer, in host memory."""
        if self._states == 0:
            return np.zeros((*self.params.shape[:-1], 0), self.spec.dtype)
        return self._driver.download(self.vel.owner)

    def not_finite(self) -> tuple[arguments.Element | None, arguments.Element | None]:
        """The first elements of the parameters and of the states that are not finite."""
        return arguments.bad_element(self.values()), arguments.bad_element(self.states())

    def restore(self, values: np.ndarray) -> None:
        """Make these the parameters."""
        self._driver.rewrite(self.params.owner, np.ascontiguousarray(values), self._stream)
        self._driver.synchronize(self.device, self._stream)
