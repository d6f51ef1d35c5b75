"""Training with an average of the parameters: `average=` of `MLP.fit` and `fit_many`.

The kernels train by the rule composed with its average (`kernels.composed`), of which the average is one more state, so
that each update averages in its own pass.  What is evaluated, and what the best is remembered of, is the average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import validation
from ..kernels.composed import Parts, composed
from ..kernels.jit import SIMULATOR
from ..kernels.rule import Rule
from ..optimizers.average import Average
from . import arguments
from .backends import HostBackend
from .constants import with_weights
from .cpu.trainer import Trainer
from .dataset import Data, Split
from .labels import AS_THEY_ARE, Labels
from .plan import Plan
from .spec import NetworkSpec


def averaged_rule(rule: Rule) -> Rule:
    """The rule whose last state is the average, and whose last hyper-parameter is its weight."""
    if rule.interpolated is not None:
        raise ValueError(f"average is for other optimizers: {rule.name} has an average of its own, which is evaluated")
    return composed(rule, Parts(average=True))


def averaged_backend(spec: NetworkSpec, params: Any, vel: Any, many: bool, states: int, average: Any) -> Any:
    """As `backends.backend_of`, with an average that the updates form and that is evaluated.

    `states` are those of the rule without the average.
    """
    if not isinstance(average, Average):
        raise TypeError(f"average is {validation.type_of(average)}; a nagd_numba.Average is needed")
    name = "params2d" if many else "params"
    if isinstance(average.value, list):
        raise ValueError(f"average is of a list; that of {name} is needed: nagd_numba.Average({name})")
    if SIMULATOR:  # its device arrays lie in host memory
        params, vel = map(validation.unsimulated, (params, vel))
    else:
        given = (name, params), ("vel", vel), ("average", average.value)
        if validation.any_on_device([(called, x) for called, x in given if x is not None]):
            from .gpu.averages import AveragedDeviceBackend

            return AveragedDeviceBackend(spec, params, vel, many, states, average)
    return AveragedBackend(spec, params, vel, many, states, average)


def _on_host(average: Average) -> np.ndarray:
    return validation.host_array("average", validation.unsimulated(average.value), write=True)


class AveragedBackend(HostBackend):
    """The host's, with an average that the updates form and that is evaluated."""

    def __init__(self, spec: NetworkSpec, params: Any, vel: Any, many: bool, states: int, average: Average) -> None:
        super().__init__(spec, params, vel, many, states)
        self.average, value = average, _on_host(average)
        arguments.average(spec, self._name, value.dtype, value.shape, self.params.shape)
        validation.no_overlap([("average", value), (self._name, self.params), ("vel", self.vel)], written=("average",))
        self.shown = value

    def split(self, X: Any, y: Any, weights: Any, validation: Any, seed: int, labels: Labels = AS_THEY_ARE) -> Split:
        """As `HostBackend.split`; the average may not lie in the data."""
        parts = super().split(X, y, weights, validation, seed, labels)
        for data in (parts.data, parts.validation):
            if data is not None:
                arguments.apart("average", self.shown, **data.arrays())
        return parts

    def trainer(self, parts: Split, plan: Plan) -> Any:
        """`plan` has the `averaged_rule`."""
        return AveragedTrainer(self.spec, self.params, self.vel, self.average, parts.data, plan)


class AveragedTrainer:
    """A trainer whose last state is an average: its epochs modify `vel`, and the value of the average, in place.

    `plan` has the `averaged_rule`; the other arguments are those of `Trainer`.
    """

    def __init__(
        self, spec: NetworkSpec, params: np.ndarray, vel: np.ndarray, average: Average, data: Data, plan: Plan
    ) -> None:
        self._vel, self._average, self.plan = vel, average, plan
        self._value = _on_host(average)
        self._joined = np.concatenate([vel, self._value], axis=-1)
        self._trainer = Trainer(spec, params, self._joined, data, plan)

    def epoch(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """As `Trainer.epoch`; `hyper` is that of the rule without the average."""
        done = [0]  # steps

        def called(steps: int) -> None:
            done[0] = steps
            if on_call is not None:
                on_call(steps)

        try:
            return self._trainer.epoch(order, with_weights(hyper, self._average), seed, first_step, called)
        finally:
            states = self._vel.shape[-1]
            self._vel[...] = self._joined[..., :states]
            self._value[...] = self._joined[..., states:]
            self._average.steps += self.plan.updates_of(done[0], order.shape[-1])
