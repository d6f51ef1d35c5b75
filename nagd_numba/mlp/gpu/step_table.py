"""What each step of an epoch needs beside the batch, worked out on the host before the first of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...kernels.jit import plain
from ..plan import Plan
from ..spec import NetworkSpec
from .host_sums import group_weights


class StepTable(NamedTuple):
    """The scalars of the steps of an epoch; those of an update are in the network's dtype.

    factors    of each step, what the loss's derivatives are multiplied by, float64
    decays     of each step, the weight of the penalty, float64
    constants  of each update, the rule's constants: shape (updates, rule.constant_count)
    """

    factors: np.ndarray
    decays: np.ndarray
    constants: np.ndarray

    @classmethod
    def of(cls, spec: NetworkSpec, plan: Plan, n: int, weights: np.ndarray | None, hyper: np.ndarray) -> StepTable:
        """Those of an epoch over n rows with these weights, in its order; `hyper` has a row for each update."""
        scaling = plan.normalization
        samples = group_weights(weights, n, plan.batch * plan.accumulate)
        samples[samples == 0] = 1.0  # every weight is 0, and so is the gradient
        samples = np.repeat(samples, plan.accumulate)[: plan.steps(n)]
        factors = scaling.gradient_factor / (samples * scaling.gradient_divisor)
        decays = spec.l2 / samples if scaling.l2_by_samples else np.full(len(samples), spec.l2)
        return cls(factors, decays, rule_constants(plan, hyper[: plan.updates(n)], spec.dtype))

    def rows(self) -> np.ndarray:
        """A row for each step: factor, decay, the rule's constants; for plans that do not accumulate."""
        return np.column_stack([self.factors, self.decays, self.constants]).astype(self.constants.dtype)


def rule_constants(plan: Plan, hyper: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """What the plan's rule makes of each row of hyper-parameters; raises where that leaves the range of `dtype`."""
    rule, constants = plan.rule, plain(plan.rule.constants)
    distinct, which = np.unique(np.asarray(hyper, np.float64), axis=0, return_inverse=True)
    rows = [tuple(row) for row in distinct.tolist()]
    with np.errstate(over="ignore", invalid="ignore"):
        made = np.array([constants(row, dtype.type, plan.options) for row in rows], dtype)
    for row in np.flatnonzero(~np.isfinite(made).all(axis=1)):
        rule.scalars(rows[row], dtype, plan.options)  # says what is wrong
    return made[which.reshape(-1)]
