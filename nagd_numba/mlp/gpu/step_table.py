"""What each step of an epoch needs beside the batch, worked out on the host before the first of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..constants import rule_constants
from ..plan import Plan
from ..spec import NetworkSpec
from .host_sums import group_weights


class StepTable(NamedTuple):
    """The scalars of the steps of an epoch, for each network; those of an update are in the network's dtype.

    factors    of each step, what the loss's derivatives are multiplied by, float64: shape (networks, steps)
    decays     of each step, the weight of the penalty, float64
    constants  of each update, the rule's constants: shape (networks, updates, rule.constant_count)
    """

    factors: np.ndarray
    decays: np.ndarray
    constants: np.ndarray

    @classmethod
    def of(cls, spec: NetworkSpec, plan: Plan, n: int, weights: np.ndarray | None, hyper: np.ndarray) -> StepTable:
        """Those of an epoch over n rows.

        `weights` are those of the rows in the order of each network's epoch, shape (networks, n); `hyper` has a row for
        each update of each network.
        """
        scaling, shape = plan.normalization, (len(hyper), plan.steps(n))
        samples = group_weights(weights, n, plan.batch * plan.accumulate)
        samples[samples == 0] = 1.0  # every weight is 0, and so is the gradient
        samples = np.repeat(samples, plan.accumulate, axis=1)[:, : plan.steps(n)]
        factors = scaling.gradient_factor / (samples * scaling.gradient_divisor)
        decays = spec.l2 / samples if scaling.l2_by_samples else np.full(samples.shape, spec.l2)
        made = cls(np.broadcast_to(factors, shape), np.broadcast_to(decays, shape), np.empty(0))
        return made.updating(spec, plan, n, hyper)

    def updating(self, spec: NetworkSpec, plan: Plan, n: int, hyper: np.ndarray) -> StepTable:
        """The same with other hyper-parameters."""
        return self._replace(constants=_constants(plan, hyper[:, : plan.updates(n)], spec.dtype))

    def weighs_as(self, other: StepTable) -> bool:
        """Are the factors and the penalties those of another table?"""
        return all(x is y or np.array_equal(x, y) for x, y in zip(self[:2], other[:2], strict=True))

    def rows(self) -> np.ndarray:
        """A row for each step of each network: factor, decay, the constants; for plans that do not accumulate."""
        rows = np.empty((*self.factors.shape, 2 + self.constants.shape[-1]), self.constants.dtype)
        rows[..., 0], rows[..., 1], rows[..., 2:] = self.factors, self.decays, self.constants
        return rows


def _constants(plan: Plan, hyper: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """What the plan's rule makes of each row of hyper-parameters; raises where that leaves the range of `dtype`."""
    made = rule_constants(plan.rule, plan.options, hyper, dtype)
    if not np.isfinite(made).all():
        finite = np.isfinite(made).all(axis=-1)
        plan.rule.scalars(tuple(hyper[np.unravel_index(finite.argmin(), finite.shape)].tolist()), dtype, plan.options)
    return made
