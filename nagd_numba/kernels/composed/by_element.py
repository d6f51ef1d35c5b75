"""Rules with hyper-parameters that are arrays: the constants are made for each element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..jit import inlined, layer
from ..rule import Rule
from ..template import template
from ..tuples import either, part
from .parts import ALL, expression, wrapped


def by_element(rule: Rule, names: tuple[str, ...]) -> Rule:
    """The rule with an array for each of these hyper-parameters.

    An element for which they are out of their ranges keeps its value and its states.
    """
    rest = tuple(x for x in rule.hyper if x not in names)
    once, then = rule.split or (nothing_once, inlined(then_of_constants.bind(constants=rule.constants)))
    slots: dict[str, Any] = {"then": then, "merge": _merge(rule, names), "within": _within(rule, names)}
    slots |= {"REST": len(rest), "OWN": len(rule.states) + len(rule.inputs), "STATES": len(rule.states)}

    return wrapped(
        rule,
        lambda update: layer(update_by_element.bind(update=update, **slots)),
        name="_".join([rule.name, "by", *names]),
        constants=inlined(constants_once.bind(once=once, filled=_merge(rule, names, constant=True))),
        hyper={x: rule.hyper[x] for x in rest},
        inputs=(*rule.inputs, *names),
        exact=True,
        elementwise=(),
        tested=(),
        split=None,
    )


def _merge(rule: Rule, names: tuple[str, ...], constant: bool = False) -> Callable:
    """`(numbers, rates)` -> all hyper-parameters in the order of the rule; with `constant` zeros for the rates."""
    rest = [x for x in rule.hyper if x not in names]
    rate = "0.0" if constant else "np.float64(rates[{}])"
    parts = [rate.format(names.index(x)) if x in names else f"numbers[{rest.index(x)}]" for x in rule.hyper]
    return expression("numbers, rates", f"({', '.join(parts)},)")


def _within(rule: Rule, names: tuple[str, ...]) -> Callable:
    """`(rates)` -> are they in their ranges?  Without branches, which would keep the loop from being vectorised."""
    tests = []
    for k, name in enumerate(names):
        here, T = rule.range_of(name), f"type(rates[{k}])"
        tests.append(f"(rates[{k}] >= {T}({here.low!r})) & (rates[{k}] < {T}({here.below!r}))")
    return expression("rates", " & ".join(tests), inf=math.inf)


@inlined
def nothing_once(hyper, options):
    """For rules without powers."""
    return ()


@template
def then_of_constants(constants):
    def then_of_constants(hyper, made, T, options):
        return constants(hyper, T, options)

    return then_of_constants


@template
def constants_once(once, filled):
    def constants_once(hyper, T, options):
        return hyper + once(filled(hyper, hyper), options)

    return constants_once


@template
def update_by_element(update, then, merge, within, REST, OWN, STATES):
    def update_by_element(p, g, state, constants, options):
        own, rates = part(state, 0, OWN), part(state, OWN, ALL)
        hyper = merge(part(constants, 0, REST), rates)
        moved, after = update(p, g, own, then(hyper, part(constants, REST, ALL), type(p), options), options)
        chosen = either(within(rates), (moved,) + after, (p,) + part(own, 0, STATES))  # noqa: RUF005
        return chosen[0], part(chosen, 1, ALL)

    return update_by_element
