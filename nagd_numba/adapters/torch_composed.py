"""Bounds, proximal maps and averages of the parameters, as options of the optimizers for PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import validation
from ..kernels.composed import Parts, composed
from ..kernels.rule import Rule
from ..optimizers.average import average_weight
from ..optimizers.bounds import bounds_of, is_array, kind_of, prox_of
from .torch_forms import Form

# Options of a parameter group and their defaults, which are keywords of the constructors.
BESIDE: dict[str, Any] = {
    "lower": None,
    "upper": None,
    "prox": None,
    "prox_weight": None,
    "average": None,
    "average_start": 0,
}
CONSTRAINTS = ("lower", "upper", "prox", "prox_weight")
AVERAGE, AVERAGED = "average", "averaged"  # keys of a parameter's state: its average, and the number of its steps

DOCUMENT = """lower, upper : float, optional
    Bounds for the parameters of the group, where the iterate and the point at which the gradient is taken stay.
prox : {"l1", "scaled_l1", "nonneg", "box"} or function, optional
    A proximal map of the iterate: of `prox_weight |p|`, of bounds, or a compiled function `(x, lr) -> x`.
prox_weight : float
    The weight of the norm, finite, >= 0.
average : "mean" or float, optional
    Keep an average of the parameters, for `averaged`: their mean, or the exponential one with this decay, below 1.
average_start : int
    So many steps at first are not averaged."""


@dataclass(frozen=True)
class Beside:
    """What a step of a group does beside its rule.

    rule      the composed rule
    numbers   its hyper-parameters behind those of the form's rule
    keywords  of the step of the library, for the same
    decay     of the average, None for the mean
    start     the steps that are not averaged
    """

    rule: Rule
    numbers: Mapping[str, float]
    keywords: Mapping[str, Any]
    decay: float | None
    start: int

    @property
    def averages(self) -> bool:
        """Is there an average?"""
        return "average_weight" in self.numbers

    def weighted(self, steps: float) -> dict[str, float]:
        """The numbers, with the weight of the parameters in the average after so many steps."""
        if not self.averages:
            return dict(self.numbers)
        return {**self.numbers, "average_weight": average_weight(int(steps) + 1 - self.start, self.decay)}


def beside_of(form: Form, group: Mapping[str, Any]) -> Beside | None:
    """What the options of a group ask for beside the rule, or None; raises for unfit ones."""
    given = {x: group.get(x) for x in CONSTRAINTS}
    average, start = group.get("average"), group.get("average_start", 0)
    with validation.prefixed(form.name):
        start = validation.whole("average_start", start, least=0)
        if average is None and all(x is None for x in given.values()):
            return None
        for name in ("lower", "upper"):
            if is_array(given[name]):
                raise TypeError(
                    f"{name} is {validation.type_of(given[name])}; a number for all parameters of the group is needed"
                )
        decay = None
        if average is not None and average != "mean":
            decay = validation.real("average", average)
            if not 0.0 <= decay < 1.0:
                raise ValueError(f"average is {decay!r}; 'mean' or a decay >= 0 and < 1 is needed")
        bounds = {x: validation.real(x, y) for x, y in bounds_of(given["lower"], given["upper"], given["prox"]).items()}
        if bounds.get("lower", 0.0) > bounds.get("upper", bounds.get("lower", 0.0)):
            raise ValueError(f"lower is {bounds['lower']!r}, above upper, {bounds['upper']!r}")
        parts = Parts(
            lower=kind_of(bounds.get("lower")),
            upper=kind_of(bounds.get("upper")),
            prox=prox_of(given["prox"], given["prox_weight"], on_device=False),
            average=average is not None,
        )
        rule = composed(form.optimizer.rule, parts)
        more = {**bounds, "prox_weight": given["prox_weight"], "average_weight": 1.0}
        numbers = {x: more[x] for x in rule.hyper if x in more}
        checked = validation.hyper_parameters(numbers, validation.DTYPES[0], rule.range_of)
    keywords = {x: y for x, y in given.items() if y is not None}
    return Beside(rule, dict(zip(numbers, checked, strict=True)), keywords, decay, start)


def start_of_average(p: Tensor, own: dict[str, Any]) -> None:
    """Give a parameter an average, with its layout."""
    if AVERAGE not in own:
        own[AVERAGE] = p.detach().clone(memory_format=torch.preserve_format)
    own.setdefault(AVERAGED, 0)


@contextlib.contextmanager
def exchanged(pairs: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """In the block each two tensors have one another's numbers."""
    _exchange(pairs)
    try:
        yield
    finally:
        _exchange(pairs[::-1])  # two parameters may lie in one memory


@torch.no_grad()
def _exchange(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for p, average in pairs:
        kept = p.detach().clone()
        p.copy_(average)
        average.copy_(kept)
