"""What composed rules look at in arrays before anything is written: rates in their range, `lower <= upper`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..jit import subroutine
from ..rule import Rule
from ..statuses import BOUNDS, OK, RATES
from ..template import template
from .parts import expression


def values_of(rule: Rule, loop: Callable[..., Any]) -> Callable:
    """`(over, states, hyper)` -> `OK`, `RATES` or `BOUNDS`: what Python looks at in arrays before a kernel runs.

    `loop(fits=...)` makes the function that goes through all elements: of `over`, a number of them or the parameters.
    """
    names, first = list(rule.hyper), len(rule.states)
    arrays = {name: f"states[{first + k}][i]" for k, name in enumerate(rule.inputs)}
    rates = []  # that each is in its range
    for name, x in arrays.items():
        if name not in ("lower", "upper"):
            here = rule.range_of(name)
            rates.append(f"({x} >= T({here.low!r})) & ({x} < T({here.below!r}))")
    made = {"rates": loop(fits=expression("states, hyper, i, T", " & ".join(rates), inf=np.inf))} if rates else {}
    lower, upper = (
        arrays.get(x) or (f"T(hyper[{names.index(x)}])" if x in rule.hyper else "") for x in ("lower", "upper")
    )
    if lower and upper:
        fits = expression("states, hyper, i, T", f"not ({lower} > {upper})")
        made["bounds"] = (loop if "lower" in arrays or "upper" in arrays else once.bind)(fits=fits)
    tests = [f"{x.upper()} if not {x}(over, states, hyper) else " for x in made]
    functions: dict[str, Any] = {name: subroutine(x) for name, x in made.items()}
    return expression("over, states, hyper", f"{''.join(tests)}{OK}", **functions, RATES=RATES, BOUNDS=BOUNDS)


@template
def over_count(fits, T):
    """Of a number of elements, behind each other in arrays or behind pointers."""

    def over_count(size, states, hyper):
        good = True
        for i in range(size):
            good &= fits(states, hyper, i, T)
        return good

    return over_count


@template
def over_shapes(fits):
    def over_shapes(params, states, hyper):
        good = True
        for i in np.ndindex(params.shape):
            good &= fits(states, hyper, i, params.dtype.type)
        return good

    return over_shapes


@template
def once(fits):
    def once(params, states, hyper):
        return fits(states, hyper, 0, np.float64)

    return once
