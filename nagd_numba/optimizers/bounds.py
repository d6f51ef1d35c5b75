"""Bounds, proximal maps and rates for elements, as a step is given them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from .. import validation
from ..flat import FlatParams
from ..gpu import target
from ..kernels.composed import ARRAY, L1, NUMBER, SCALED_L1
from ..kernels.rule import Rule

PROXES = (L1, SCALED_L1, "nonneg", "box")


def is_array(x: Any) -> bool:
    """Is this given for each element?  (A device array of one element holds one number for all.)"""
    if x.__class__ is float:
        return False
    if isinstance(x, FlatParams | list | tuple):
        return True
    shape = getattr(x, "shape", ())
    return shape != () and (not validation.is_device_array(x) or math.prod(shape) != 1)


def is_bound_array(x: Any) -> bool:
    """Is a bound given for each element?"""
    return is_array(x) or validation.is_device_array(x)


def kind_of(bound: Any) -> str:
    """How a bound is given."""
    return "" if bound is None else ARRAY if is_bound_array(bound) else NUMBER


def bounds_of(lower: Any, upper: Any, prox: Any) -> dict[str, Any]:
    """`lower` and `upper`, where they are given, also as `prox="nonneg"`."""
    bounds = {name: x for name, x in (("lower", lower), ("upper", upper)) if x is not None}
    named = prox if isinstance(prox, str) else None
    if named == "nonneg":
        if "lower" in bounds:
            raise ValueError("prox is 'nonneg', which is lower=0, and lower is given: leave out one of them")
        bounds["lower"] = 0.0
    elif named == "box" and not bounds:
        raise ValueError("prox is 'box': lower, upper or both are needed")
    for name, x in bounds.items():
        if not is_bound_array(x) and not np.isfinite(validation.real(name, x)):
            raise ValueError(f"{name} is {validation.shown(x)}; a finite number is needed, or None for no bound")
    return bounds


def prox_of(prox: Any, weight: Any, on_device: bool) -> Any:
    """The proximal map beside the bounds, for `kernels.composed.Parts`."""
    weighted = isinstance(prox, str) and prox in (L1, SCALED_L1)
    if weight is not None and not weighted:
        raise ValueError(f"prox_weight is for prox='l1' and 'scaled_l1', and prox is {prox!r}: leave it out")
    if prox is None:
        return ""
    if isinstance(prox, str):
        validation.choice("prox", prox, PROXES)
        if weighted and weight is None:
            raise ValueError(f"prox is {prox!r}: prox_weight, the weight of the norm, is needed")
        return prox if weighted else ""
    if not isinstance(prox, Dispatcher) and not (on_device and target.is_function(prox, device=True)):
        raise TypeError(
            f"prox is {validation.type_of(prox)}; one of {', '.join(map(repr, PROXES))} is needed, or a function "
            f"(x, lr) -> x that is compiled: numba.njit(prox){', or cuda.jit(prox, device=True)' if on_device else ''}"
        )
    return prox


def rates_of(rule: Rule, hyper: Mapping[str, Any]) -> tuple[str, ...]:
    """The hyper-parameters that are given for each element; raises for those that cannot be."""
    rates = tuple(x for x in rule.hyper if is_array(hyper[x]))
    for name in rates:
        if name not in rule.elementwise:
            able = " and ".join(rule.elementwise)
            raise TypeError(
                f"{name} is {validation.type_of(hyper[name])}; a number is needed: only {able} may be arrays"
            )
    return rates


def check_arrays(rule: Rule, arrays: Mapping[str, tuple[str, np.ndarray]], numbers: Mapping[str, Any]) -> None:
    """Raise for rates out of their range, and for bounds that leave nothing; `arrays` have their names in messages."""
    for name, (label, x) in arrays.items():
        if name in ("lower", "upper"):
            continue
        here = rule.range_of(name)
        if x.size and not (x.min() >= here.low and x.max() < here.below):
            bad = ~((x >= here.low) & (x < here.below))
            at = tuple(int(k) for k in np.argwhere(bad)[0])
            raise ValueError(f"{label} is {float(x[at])!r} at {at}; {here} is needed for each element")
    low, high = (arrays[x][1] if x in arrays else numbers.get(x) for x in ("lower", "upper"))
    if low is not None and high is not None and np.any(np.greater(low, high)):
        raise ValueError("lower is above upper; lower <= upper is needed for each element")
