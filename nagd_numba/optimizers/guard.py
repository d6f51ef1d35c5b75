"""`Guard`: what a step does about its gradients before it uses them, and what it finds out about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import validation
from ..kernels import reductions
from ..kernels.rule import Rule
from ._host import Groups, use_parallel

POLICIES = ("propagate", "skip", "raise")


class Guard:
    """Clipping, a loss scale, and a watch over non-finite gradients for steps: `step(..., guard=guard)`.

    With the gradient `g` that a step is given, it uses

        g / grad_scale,  times clip_norm / |g / grad_scale| where that norm is larger than clip_norm,
        each element then cut to [-clip_value, clip_value]

    Parameters
    ----------
    clip_norm : float, optional
        Largest Euclidean norm, of all arrays of a list together; > 0.
    clip_value : float, optional
        Largest size of an element, > 0.
    nonfinite : {"propagate", "skip", "raise"}
        With an infinity or NaN among the gradients: go on; leave parameters and states as they are (`skipped` says so,
        and a number `t` of the step should not be counted on); or do so and raise `FloatingPointError`.
    grad_scale : float
        What the loss was multiplied by, > 0.  The attribute may be changed between steps.

    Attributes
    ----------
    norm : float
        The Euclidean norm of `g / grad_scale` in the last step, before any clipping.
    nonfinite_count : int
        Its elements that are infinite or NaN.
    dot : float
        The sum of its products with the velocity (`vel`, `m`, or `iterate`) after the step, or NaN after a skipped one.
        With torch's convention a negative one, with the others a positive one, says that the last move was uphill: the
        test of gradient restarts.
    skipped : bool
        Did the last step leave everything as it was?

    Notes
    -----
    The sums are formed in float64 in the pass of the step itself, in an order that depends on the lengths alone: any
    number of threads, and any processor, gives equal bits.  `clip_norm`, "skip" and "raise" need them before: they
    cost another pass over the gradients.  With none of the options the step has the bits of one without a guard.

    For contiguous arrays in host memory; from Python.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> guard = nagd_numba.Guard(clip_norm=1.0, nonfinite="skip")
    >>> params, vel = np.zeros(2), np.zeros(2)
    >>> nagd_numba.step(params, np.array([3.0, 4.0]), vel, lr=1.0, momentum=0.0, guard=guard)
    array([-0.6, -0.8])
    >>> guard.norm
    5.0
    >>> _ = nagd_numba.step(params, np.array([np.nan, 0.0]), vel, guard=guard)
    >>> guard.skipped, guard.nonfinite_count, params
    (True, 1, array([-0.6, -0.8]))
    """

    def __init__(
        self,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        nonfinite: str = "propagate",
        grad_scale: float = 1.0,
    ) -> None:
        with validation.prefixed("Guard"):
            self.clip_norm = math.inf if clip_norm is None else validation.number("clip_norm", clip_norm, low_open=True)
            self.clip_value = (
                math.inf if clip_value is None else validation.number("clip_value", clip_value, low_open=True)
            )
            validation.choice("nonfinite", nonfinite, POLICIES)
        self.nonfinite = nonfinite
        self.grad_scale = grad_scale
        self.norm = self.dot = math.nan
        self.nonfinite_count = 0
        self.skipped = False

    def step(self, rule: Rule, groups: Groups, hyper: dict[str, Any], options: tuple[Any, ...]) -> None:
        """Step each of several groups of arrays, after checking everything."""
        scale = validation.number("grad_scale", self.grad_scale, low_open=True)
        checked = [_checked(rule, group, k if len(groups) > 1 else None) for k, group in enumerate(groups)]
        everything = [pair for group in checked for pair in group]
        validation.no_overlap(everything, written=[name for name, _ in everything if not name.startswith("grads")])
        for group in checked:
            dtype = group[0][1].dtype
            values = validation.hyper_parameters(hyper, dtype, rule.range_of)
            rule.scalars(values, dtype, options)
        flat = [[x.reshape(-1) for x in _in_one_order([x for _, x in group])] for group in checked]
        factor = 1.0 / scale
        if self.nonfinite != "propagate" or self.clip_norm < math.inf:
            self._found([_gradient_sums(group[1]) for group in flat], scale)
            if self.nonfinite_count > 0 and self.nonfinite != "propagate":
                self.skipped, self.dot = True, math.nan
                if self.nonfinite == "raise":
                    raise FloatingPointError(
                        f"{self.nonfinite_count} of the gradients are infinite or NaN; nothing was changed"
                    )
                return
            if self.norm > self.clip_norm:
                factor *= self.clip_norm / self.norm
        totals = []
        for p, g, *states in flat:
            sums = reductions.new_sums(p.size)
            kernel = reductions.step_kernel(rule, options, p.dtype, use_parallel(p.size))
            kernel(p, _read_only(g), tuple(states), values, factor, self.clip_value, sums)
            totals.append(sums[-1])
        self._found(totals, scale)
        self.dot = sum(float(x[reductions.DOT]) for x in totals) / scale if rule.states else math.nan
        self.skipped = False
        for params, _, *written in groups:
            validation.tell_torch(params, *written)

    def _found(self, totals: Sequence[np.ndarray], scale: float) -> None:
        self.norm = math.sqrt(sum(float(x[reductions.SQUARES]) for x in totals)) / scale
        self.nonfinite_count = sum(int(x[reductions.BAD]) for x in totals)


def _gradient_sums(g: np.ndarray) -> np.ndarray:
    sums = reductions.new_sums(g.size)
    reductions.gradient_kernel(g.dtype, use_parallel(g.size))(_read_only(g), sums)
    return np.asarray(sums[-1])


def _checked(rule: Rule, group: tuple[Any, ...], number: int | None) -> list[tuple[str, np.ndarray]]:
    names: tuple[str, ...] = ("params", "grads", *rule.states)
    names = names if number is None else validation.numbered(names, number)
    host = [
        (name, validation.host_array(name, x, write=k != 1))
        for k, (name, x) in enumerate(zip(names, group, strict=True))
    ]
    validation.same_kind(host)
    return host


def _in_one_order(host: list[np.ndarray]) -> list[np.ndarray]:
    flat = validation.flat_views(host)
    if flat is None:
        raise ValueError("a step with a guard needs contiguous arrays: pass copies, np.ascontiguousarray(...)")
    return flat


def _read_only(x: np.ndarray) -> np.ndarray:
    view = x.view()
    view.flags.writeable = False
    return view
