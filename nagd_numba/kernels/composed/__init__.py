"""Rules made of rules: bounds, averages and rates for elements, of any rule, in the same pass over memory.

Each function here takes a rule and returns one that does more; the loops know nothing of it but that there are other
arrays (`Rule.inputs`, `Rule.mask`).  Their order is that of `composed`:

    constrained   a proximal map and bounds for the iterate
    averaged      an average of the parameters, as a state
    by_element    hyper-parameters that are arrays

Then comes the mask, which is a matter of the loops alone.
"""

from __future__ import annotations

import functools
from dataclasses import replace

from ..rule import Rule
from .averaged import averaged
from .by_element import by_element
from .constrained import constrained
from .parts import ARRAY, L1, NUMBER, SCALED_L1, Parts

__all__ = ["ARRAY", "L1", "NUMBER", "SCALED_L1", "Parts", "composed"]


@functools.cache
def composed(rule: Rule, parts: Parts) -> Rule:
    """The rule with these parts."""
    made = rule
    if parts.lower or parts.upper or parts.prox:
        made = constrained(made, parts.lower, parts.upper, parts.prox)
    if parts.average:
        made = averaged(made)
    if parts.rates:
        made = by_element(made, parts.rates)
    return replace(made, name=f"{made.name}_masked_{parts.mask}", mask=parts.mask) if parts.mask else made
