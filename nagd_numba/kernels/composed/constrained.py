"""Rules whose iterate stays in bounds, or goes through a proximal map."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

from ..jit import inlined, layer
from ..proximal import not_above, not_below, soft_threshold, unchanged
from ..rounding import mul
from ..rule import Range, Rule
from ..template import template
from ..tuples import part
from .parts import ARRAY, L1, NUMBER, SCALED_L1, number_at, with_more, wrapped

ANY = Range(low=-sys.float_info.max)


def constrained(rule: Rule, lower: str, upper: str, prox: Any) -> Rule:
    """The rule whose iterate goes through a proximal map, then to the nearest point in the bounds.

    The threshold of "l1" is the step size times `prox_weight`; that of "scaled_l1" also times the rule's scale of the
    element, so that it is the map in the metric in which the rule descends.
    """
    if prox == SCALED_L1 and rule.scale is None:
        raise ValueError(f"prox is 'scaled_l1', and {rule.name} has no scale of elements for it; 'l1' is needed")
    numbers: list[str] = []
    inputs: list[str] = []
    more: list[Callable] = []  # of the hyper-parameters and the type: constants behind those of the rule
    of_limits: list[Callable] = []  # of the state and the constants: the limit
    count, at = rule.constant_count, len(rule.hyper)
    if rule.rate is None:
        rate = inlined(lr_at.bind(K=list(rule.hyper).index("lr")))
    else:
        rate = inlined(rate_of_first.bind(rate=rule.rate, HYPER=at))
    for name, kind in (("lower", lower), ("upper", upper)):
        if kind == NUMBER:
            of_limits.append(inlined(constant_at.bind(K=count + len(more))))
            more.append(inlined(number_at.bind(K=at + len(numbers))))
            numbers.append(name)
        elif kind == ARRAY:
            of_limits.append(inlined(state_at.bind(K=len(rule.states) + len(inputs))))
            inputs.append(name)
        else:
            of_limits.append(none)
    if prox:
        of_limits.append(inlined(constant_at.bind(K=count + len(more))))
        if prox in (L1, SCALED_L1):
            weight = at + len(numbers)
            numbers.append("prox_weight")
            more.append(inlined(threshold_at.bind(rate=rate, K=weight)))
        else:
            more.append(inlined(rate_of.bind(rate=rate)))
    else:
        of_limits.append(none)
    return _made_constrained(rule, tuple(numbers), tuple(inputs), tuple(more), tuple(of_limits), lower, upper, prox)


def _made_constrained(
    rule: Rule, numbers: Any, inputs: Any, more: Any, of_limits: Any, lower: str, upper: str, prox: Any
) -> Rule:
    below, above = not_below if lower else unchanged, not_above if upper else unchanged
    if isinstance(prox, str):
        first = soft_threshold if prox else unchanged
    else:
        first = inlined(of_user.bind(function=prox, NUMBER=next(_numbers)))
    keep = inlined(in_bounds.bind(below=below, above=above))
    whole = inlined(mapped.bind(first=first, keep=keep))
    shared: dict[str, Any] = {"STATES": len(rule.states), "CONSTANTS": rule.constant_count}
    shared |= dict(zip(("lower", "upper", "limit"), of_limits, strict=True))

    def make(update: Callable) -> Callable:
        if rule.proximal is not None:
            own = inlined(rule.proximal.bind(prox=whole, keep=keep))
            return layer(proximal_update.bind(update=own, **shared))
        scale = rule.scale if prox == SCALED_L1 else None
        if scale is not None:
            return layer(scaled_update.bind(update=update, prox=whole, scale=scale, **shared))
        return layer(constrained_update.bind(update=update, prox=whole, **shared))

    name = "_".join(["prox", lower, upper, prox if isinstance(prox, str) else "function"])
    return wrapped(
        rule,
        make,
        name=f"{rule.name}_{name}",
        **with_more(rule, more),
        hyper={**rule.hyper, **dict.fromkeys(numbers, 0.0)},
        ranges={**rule.ranges, "lower": ANY, "upper": ANY},
        inputs=inputs,
        proximal=None,
        of_users=not isinstance(prox, str),
    )


@template
def constant_at(K):
    def constant_at(state, constants):
        return constants[K]

    return constant_at


@template
def state_at(K):
    def state_at(state, constants):
        return state[K]

    return state_at


@inlined
def none(state, constants):
    """In place of a limit that there is not."""
    return constants[0]


@template
def lr_at(K):
    def lr_at(hyper):
        return hyper[K]

    return lr_at


@template
def rate_of_first(rate, HYPER):
    def rate_of_first(hyper):
        return rate(part(hyper, 0, HYPER))

    return rate_of_first


@template
def rate_of(rate):
    def rate_of(hyper, T):
        return T(rate(hyper))

    return rate_of


@template
def threshold_at(rate, K):
    def threshold_at(hyper, T):
        return T(mul(rate(hyper), hyper[K]))

    return threshold_at


@template
def in_bounds(below, above):
    def in_bounds(x, values):
        return above(below(x, values[0]), values[1])

    return in_bounds


@template
def mapped(first, keep):
    def mapped(x, values):
        return keep(first(x, values[2]), values)

    return mapped


_numbers = itertools.count()  # of the functions of users, which a name and a file do not tell apart


@template
def of_user(function, NUMBER):
    def of_user(x, lr):
        return type(x)(function(x, lr))

    return of_user


@template
def constrained_update(update, prox, lower, upper, limit, STATES, CONSTANTS):
    def constrained_update(p, g, state, constants, options):
        values = lower(state, constants), upper(state, constants), limit(state, constants)
        p, after = update(p, g, part(state, 0, STATES), part(constants, 0, CONSTANTS), options)
        return prox(p, values), after

    return constrained_update


@template
def scaled_update(update, prox, scale, lower, upper, limit, STATES, CONSTANTS):
    def scaled_update(p, g, state, constants, options):
        own = part(constants, 0, CONSTANTS)
        p, after = update(p, g, part(state, 0, STATES), own, options)
        threshold = mul(limit(state, constants), scale(after, own, options))
        return prox(p, (lower(state, constants), upper(state, constants), threshold)), after

    return scaled_update


@template
def proximal_update(update, lower, upper, limit, STATES, CONSTANTS):
    def proximal_update(p, g, state, constants, options):
        values = lower(state, constants), upper(state, constants), limit(state, constants)
        return update(p, g, part(state, 0, STATES), part(constants, 0, CONSTANTS), options, values)

    return proximal_update
