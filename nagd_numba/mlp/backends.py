"""Where a training happens: the parameters and states that it changes, checked, and what trains them there.

`backend_of` gives a `HostBackend`, or `gpu.backend.DeviceBackend` for arrays on a CUDA device, which offers the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.aligned import aligned
from ..kernels.jit import SIMULATOR
from ..validation import any_on_device, finite, first_not_finite, host_array, no_overlap, unsimulated
from . import arguments
from .cpu.trainer import Trainer, evaluate
from .dataset import Split, samples, split
from .interpolated import evaluated
from .labels import AS_THEY_ARE, Labels
from .plan import Plan
from .spec import NetworkSpec


class HostBackend:
    """Parameters in host memory: a vector, or a matrix with a row for each of many networks."""

    asynchronous = False  # does its trainer train while the host does something else?

    def __init__(self, spec: NetworkSpec, params: Any, vel: Any, many: bool, states: int = 1) -> None:
        arguments.host_precision(spec)
        self.spec = spec
        self._name = name = "params2d" if many else "params"
        self.params = (_matrix if many else _vector)(spec, name, params)
        shape = (*self.params.shape[:-1], states * spec.size)
        self.vel = aligned(shape, spec.dtype) if vel is None else _states(spec, vel, shape)
        no_overlap([(name, self.params), ("vel", self.vel)], written=(name, "vel"))
        self.shown = self.params  # what is evaluated, and what the best is remembered of
        self._best: Any = None

    @property
    def networks(self) -> int:
        """How many there are, or 0 for one in a vector."""
        return len(self.params) if self.params.ndim == 2 else 0

    def split(self, X: Any, y: Any, weights: Any, validation: Any, seed: int, labels: Labels = AS_THEY_ARE) -> Split:
        """The samples, checked with the parameters and states, and which of them train."""
        if isinstance(validation, tuple | list):
            validation = [*map(unsimulated, validation)]
        X, y, weights = map(unsimulated, (X, y, weights))
        parts = split(self.spec, samples(self.spec, X, y, weights, labels), validation, seed, labels)
        for name, x in ((self._name, self.params), ("vel", self.vel)):
            finite(name, x)
            for data in (parts.data, parts.validation):
                if data is not None:
                    arguments.apart(name, x, **data.arrays())
        return parts

    def trainer(self, parts: Split, plan: Plan) -> Any:
        return evaluated(Trainer(self.spec, self.params, self.vel, parts.data, plan), self.params, self.vel)

    def evaluation(self, parts: Split, plan: Plan, comm: Any = None) -> Callable[[], np.ndarray]:
        """What evaluates what is shown on the rows for validation: the sums of `metrics.described`, of each network.

        The ranks of `comm` share the work.
        """
        data, rows = parts.validation, parts.validation_rows
        assert data is not None
        if self.networks:
            return lambda: np.stack([evaluate(self.spec, params, data, rows) for params in self.shown])
        return lambda: evaluate(self.spec, self.shown, data, rows, comm)

    def values(self) -> np.ndarray:
        """The parameters as they are now, in host memory."""
        return self.params

    def states(self) -> np.ndarray:
        """The states of the optimizer, in host memory."""
        return self.vel

    def not_finite(self) -> tuple[arguments.Element | None, arguments.Element | None]:
        """The first elements of the parameters and of the states that are not finite."""
        return arguments.bad_element(self.params), arguments.bad_element(self.vel)

    def remember(self) -> bool:
        """Keep a copy of what is shown, if it is finite."""
        good = first_not_finite(self.shown) is None
        if good and self._best is None:
            self._best = np.empty_like(self.shown)
        if good:
            self._best[...] = self.shown
        return good

    def restore(self) -> None:
        """Make the copy what is shown."""
        self.shown[...] = self._best


def backend_of(spec: NetworkSpec, params: Any, vel: Any, many: bool = False, states: int = 1) -> Any:
    """The backend of these arrays, `vel` with so many states in it; raises for unsupported ones."""
    if SIMULATOR:  # its device arrays lie in host memory
        params, vel = map(unsimulated, (params, vel))
    elif any_on_device([(name, x) for name, x in (("params", params), ("vel", vel)) if x is not None]):
        from .gpu.backend import DeviceBackend

        return DeviceBackend(spec, params, vel, many, states)
    return HostBackend(spec, params, vel, many, states)


def _vector(spec: NetworkSpec, name: str, x: Any) -> np.ndarray:
    return arguments.parameters(spec, x, name, write=True)


def _states(spec: NetworkSpec, vel: Any, shape: tuple[int, ...]) -> np.ndarray:
    x = host_array("vel", vel, write=True)
    arguments.states(spec, x.dtype, x.shape, shape)
    if not x.flags.c_contiguous:
        raise ValueError("vel is strided; a C-contiguous array is needed: np.ascontiguousarray(vel)")
    return x


def _matrix(spec: NetworkSpec, name: str, x: Any) -> np.ndarray:
    matrix = host_array(name, x, write=True)
    arguments.matrix(spec, name, matrix.dtype, matrix.shape)
    if not matrix.flags.c_contiguous:
        raise ValueError(f"{name} is strided; a C-contiguous matrix is needed: np.ascontiguousarray({name})")
    return matrix
