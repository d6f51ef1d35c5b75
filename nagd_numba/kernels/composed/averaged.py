"""Rules that average the parameters in the pass of the step."""

from __future__ import annotations

import math

from ..jit import inlined, layer
from ..rounding import add, fma
from ..rule import Range, Rule
from ..template import template
from ..tuples import part
from .parts import ALL, number_at, with_more, wrapped


def averaged(rule: Rule) -> Rule:
    """The rule with an average of the parameters: `average <- average + average_weight (p - average)`.

    A weight of 1 makes it the parameters, to the last bit.
    """
    states, count = len(rule.states), rule.constant_count
    return wrapped(
        rule,
        lambda update: layer(averaged_update.bind(update=update, STATES=states, NEXT=states + 1, CONSTANTS=count)),
        name=f"{rule.name}_averaged",
        **with_more(rule, (inlined(number_at.bind(K=len(rule.hyper))),)),
        states=(*rule.states, "average"),
        hyper={**rule.hyper, "average_weight": 1.0},
        ranges={**rule.ranges, "average_weight": Range(below=math.nextafter(1.0, 2.0))},
    )


@template
def averaged_update(update, STATES, NEXT, CONSTANTS):
    def averaged_update(p, g, state, constants, options):
        average, weight = state[STATES], constants[CONSTANTS]
        own = part(state, 0, STATES) + part(state, NEXT, ALL)
        p, after = update(p, g, own, part(constants, 0, CONSTANTS), options)
        return p, after + (weighted(average, p, weight),)  # noqa: RUF005

    return averaged_update


@inlined
def weighted(average, p, weight):
    """`average + weight (p - average)`, exact for weights of 0 and 1."""
    T = type(p)
    near = weight < T(0.5)  # the same for all elements
    return fma(weight if near else add(weight, T(-1)), add(p, -average), average if near else p)
