"""Training in a device's memory: the counterpart of `..backends.HostBackend`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ...gpu import device_array, driver, streams
from ...gpu.device_array import EXACT, DeviceMemory, describe
from ...validation import finite, is_device_array, plain_tensor
from .. import arguments
from ..dataset import Data, Split, samples, split
from ..interpolated import evaluated
from ..labels import AS_THEY_ARE, Labels
from ..plan import Plan
from ..sparse import is_sparse
from ..spec import NetworkSpec, of_targets
from . import gemm, tf32
from .evaluation import DeviceEvaluation
from .finite import FiniteCheck
from .ordering import wait_for
from .trainer import DeviceTrainer
from .training_data import DeviceData, address_of


class DeviceBackend:
    """Parameters and states on a device.  Samples may be there or on the host, from where they are copied once.

    `vel` has the states of a rule one after the other: shape (states size,), or (networks, states size).
    """

    asynchronous = True

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
        gemm.check(spec.sizes)
        tf32.check(spec.precision, self.device)
        self._states = states
        self.networks = self.params.shape[0] if many else 0
        self._stream = streams.stream_of(None, params, self.device)
        wait_for([params, vel], self._stream, self.device)
        if vel is None:
            zeros = np.zeros(shape if states else 1, spec.dtype)
            fresh = self._driver.upload(zeros, self.device, stream=self._stream)
            given.append(("vel", describe("vel", fresh, write=True)))
        self.vel = given[1][1]
        self.trained = given  # what a training modifies, by name
        self.shown = self.params  # what is evaluated, and what the best is remembered of
        self._there: list[tuple[Data, DeviceData]] = []
        self._best: Any = None
        self._finite: FiniteCheck | None = None

    def split(self, X: Any, y: Any, weights: Any, validation: Any, seed: int, labels: Labels = AS_THEY_ARE) -> Split:
        """The samples, checked on the host with the parameters and states, and which of them train."""
        for name, x in (("X", X), ("validation", validation[0] if isinstance(validation, tuple | list) else None)):
            if is_sparse(x):
                raise ValueError(
                    f"{name} is sparse, and params on a CUDA device, where networks take dense rows: X.toarray(), or "
                    f"params in host memory"
                )
        held: Any = validation[0] if isinstance(validation, tuple | list) and validation else None
        if isinstance(validation, tuple | list):
            validation = [self._on_host(x) for x in validation]
        on_host, y, weights = (self._on_host(x) for x in (X, y, weights))
        parts = split(self.spec, samples(self.spec, on_host, y, weights, labels), validation, seed, labels)
        finite(self._name, self.values())
        finite("vel", self.states())
        shared = parts.validation is parts.data
        if is_device_array(X):  # the host's copy is for the checks
            parts = parts._replace(data=dataclasses.replace(parts.data, X=X))
        if shared:
            parts = parts._replace(validation=parts.data)
        elif parts.validation is not None and is_device_array(held):
            parts = parts._replace(validation=dataclasses.replace(parts.validation, X=held))
        return parts

    def _on_host(self, x: Any) -> Any:
        if x is None or not is_device_array(x):
            return x
        return self._driver.download(plain_tensor("X", x))

    def trainer(self, parts: Split, plan: Plan) -> Any:
        there = self._data(parts.data)
        self._apart("X", there)
        device_array.one_device([("params", self.params), ("X", there.X), ("y", there.y)])
        return self._trainer(of_targets(self.spec, len(there.y.shape)), there, plan)

    def _trainer(self, spec: NetworkSpec, data: DeviceData, plan: Plan) -> Any:
        trainer = DeviceTrainer(spec, self.params, self.vel, data, plan, self.networks, self._stream)
        return evaluated(trainer, self.params, self.vel, self._stream)

    def _apart(self, name: str, data: DeviceData) -> None:
        """Raise where the inputs lie in what is trained; targets and weights are copies."""
        for trained, x in self.trained:
            device_array.no_overlap([(trained, x), (name, data.X)])

    def evaluation(self, parts: Split, plan: Plan, comm: Any = None) -> Callable[[], np.ndarray]:
        """As `HostBackend.evaluation`."""
        assert parts.validation is not None
        there, networks = self._data(parts.validation), max(self.networks, 1)
        self._apart("validation", there)
        device_array.one_device([("params", self.params), ("validation", there.X)])
        made = DeviceEvaluation(
            of_targets(self.spec, len(there.y.shape)),
            plan,
            self.shown.pointer,
            networks,
            there,
            parts.validation_rows,
            self._stream,
        )
        return made if self.networks else lambda: made()[0]

    def _data(self, data: Data) -> DeviceData:
        """The data on the device, where they are copied once."""
        for known, there in self._there:
            if known is data:
                return there
        X, y = self._upload("X", data.X), self._upload("y", data.y)
        weights = self._upload("sample_weight", data.weights) if len(data.weights) else None
        made = DeviceData(X, y, weights, data.weights, data.scale, self.device)
        self._there.append((data, made))
        return made

    def _upload(self, name: str, x: Any) -> DeviceMemory:
        there = x if is_device_array(x) else self._driver.upload(x, self.device, stream=self._stream)
        wait_for([there], self._stream, self.device)
        return describe(name, there, write=False, dtypes=(*EXACT, "uint8", "int64"))

    def values(self) -> np.ndarray:
        """The parameters as they are now, in host memory."""
        return self._driver.download(self.params.owner, self._stream)

    def states(self) -> np.ndarray:
        """The states of the optimizer, in host memory."""
        if self._states == 0:
            return np.zeros((*self.params.shape[:-1], 0), self.spec.dtype)
        return self._driver.download(self.vel.owner, self._stream)

    def not_finite(self) -> tuple[arguments.Element | None, arguments.Element | None]:
        """The first elements of the parameters and of the states that are not finite."""
        return arguments.bad_element(self.values()), arguments.bad_element(self.states())

    def remember(self) -> bool:
        """Keep a copy of what is shown on the device, if it is finite."""
        if self._finite is None:
            self._finite = FiniteCheck(self.shown, self.device, self._stream)
        good = self._finite()
        if good:
            if self._best is None:
                self._best = self._driver.empty(self.params.size, self.spec.dtype, self.device, stream=self._stream)
            self._copy(address_of(self._best), self.shown.pointer)
        return good

    def restore(self) -> None:
        """Make the copy what is shown."""
        self._copy(self.shown.pointer, address_of(self._best))
        self._driver.synchronize(self.device, self._stream)

    def _copy(self, to: int, source: int) -> None:
        size = self.params.size * self.params.itemsize
        with self._driver.inside(self.device):
            self._driver.copy(to, source, size, self._stream)
