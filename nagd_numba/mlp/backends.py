"""Where a training happens: the parameters and velocities that it changes, checked, and what trains them there.

`place_of` gives a `HostPlace`, or `gpu.place.DevicePlace` for arrays on a CUDA device, which offers the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.jit import SIMULATOR
from ..validation import any_on_device, host_array, no_overlap, unsimulated
from . import arguments
from .cpu.trainer import Trainer
from .dataset import Split, samples, split
from .plan import Plan
from .spec import NetworkSpec


class HostPlace:
    """Parameters in host memory: a vector, or a matrix with a row for each of many networks."""

    def __init__(self, spec: NetworkSpec, params: Any, vel: Any, many: bool, states: int = 1) -> None:
        arguments.host_precision(spec)
        self.spec = spec
        check = _matrix if many else _vector
        name = "params2d" if many else "params"
        self.params = check(spec, name, params)
        if states > 1:
            self.vel = np.zeros(states * spec.size, spec.dtype) if vel is None else _states(spec, vel, states)
        else:
            self.vel = np.zeros_like(self.params) if vel is None else check(spec, "vel", vel)
        if states == 1 and self.vel.shape != self.params.shape:
            raise ValueError(f"vel has shape {self.vel.shape} and {name} {self.params.shape}; one shape is needed")
        no_overlap([(name, self.params), ("vel", self.vel)], written=(name, "vel"))

    @property
    def networks(self) -> int:
        """How many there are, or 0 for one in a vector."""
        return len(self.params) if self.params.ndim == 2 else 0

    def split(self, X: Any, y: Any, weights: Any, validation: Any, seed: int) -> Split:
        """The samples, checked, and which of them train."""
        if isinstance(validation, tuple | list):
            validation = [*map(unsimulated, validation)]
        given = map(unsimulated, (X, y, weights))
        return split(self.spec, samples(self.spec, *given), validation, seed)

    def trainer(self, parts: Split, plan: Plan) -> Any:
        return Trainer(self.spec, self.params, self.vel, parts.data, plan)

    def values(self) -> np.ndarray:
        """The parameters as they are now, in host memory."""
        return self.params

    def restore(self, values: np.ndarray) -> None:
        """Make these the parameters."""
        self.params[...] = values


def place_of(spec: NetworkSpec, params: Any, vel: Any, many: bool = False, states: int = 1) -> Any:
    """The place of these arrays, `vel` with so many states in it; raises for unfit ones."""
    if SIMULATOR:  # its device arrays lie in host memory
        params, vel = map(unsimulated, (params, vel))
    elif any_on_device([(name, x) for name, x in (("params", params), ("vel", vel)) if x is not None]):
        if states > 1:
            raise ValueError(
                "optimizer is one with two states, which trains in host memory only, and params are on a CUDA device: "
                "copy them, or take 'nag'"
            )
        from .gpu.backend import DevicePlace  # imports numba.cuda

        return DevicePlace(spec, params, vel, many)
    return HostPlace(spec, params, vel, many, states)


def _vector(spec: NetworkSpec, name: str, x: Any) -> np.ndarray:
    return arguments.parameters(spec, x, name, write=True)


def _states(spec: NetworkSpec, vel: Any, states: int) -> np.ndarray:
    x = host_array("vel", vel, write=True)
    if x.dtype != spec.dtype or x.shape != (states * spec.size,) or not x.flags.c_contiguous:
        raise ValueError(
            f"vel has shape {x.shape} and dtype {x.dtype}; the {states} states of {spec.size} parameters in one "
            f"contiguous vector of {spec.dtype} are needed: np.zeros({states * spec.size}, {str(spec.dtype)!r})"
        )
    return x


def _matrix(spec: NetworkSpec, name: str, x: Any) -> np.ndarray:
    matrix = host_array(name, x, write=True)
    arguments.matrix(spec, name, matrix.dtype, matrix.shape)
    if not matrix.flags.c_contiguous:
        raise ValueError(f"{name} is strided; a C-contiguous matrix is needed: np.ascontiguousarray({name})")
    return matrix
