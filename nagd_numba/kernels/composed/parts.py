"""What a rule is composed with, and what all compositions are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..jit import inlined
from ..rule import Rule
from ..template import template
from ..tuples import part

NUMBER, ARRAY = "number", "array"  # how a bound is given
L1, SCALED_L1 = "l1", "scaled_l1"
ALL = 64  # beyond the end of any tuple


@dataclass(frozen=True)
class Parts:
    """What a rule is to be composed with.

    lower, upper   "" for none, NUMBER or ARRAY
    prox           "", "l1", "scaled_l1", or a compiled function `(x, lr) -> x` of the user's
    average        an average of the parameters
    rates          the hyper-parameters that are arrays
    mask           see `Rule.mask`
    """

    lower: str = ""
    upper: str = ""
    prox: Any = ""
    average: bool = False
    rates: tuple[str, ...] = ()
    mask: str = ""


def wrapped(rule: Rule, make: Callable, **changes: Any) -> Rule:
    """The rule with other updates, and other changes."""
    only = None
    if rule.only is not None:

        def only(options: tuple[Any, ...]) -> Callable:
            return make(rule.update_of(options))

    return replace(rule, update=make(rule.update), only=only, **changes)


def expression(arguments: str, value: str, **names: Any) -> Callable:
    """A compiled function of one expression, in which `names` stand for themselves."""
    namespace: dict[str, Any] = {"np": np, **names}
    exec(f"def expression({arguments}):\n    return {value}", namespace)
    made = namespace["expression"]
    made.__module__, made.__qualname__ = __name__, f"lambda {arguments}: {value}"  # what tells it from others
    return inlined(made)


def with_more(rule: Rule, more: tuple[Callable, ...]) -> dict[str, Any]:
    """`constants` and `split` of a rule with more constants, each a function `(hyper, T)` of all hyper-parameters."""
    slots: dict[str, Any] = {"more": _appended(more), "HYPER": len(rule.hyper)}
    split = None
    if rule.split is not None:
        once, then = rule.split
        split = (
            inlined(once_of_first.bind(once=once, HYPER=len(rule.hyper))),
            inlined(more_constants_then.bind(then=then, **slots)),
        )
    return {"constants": inlined(more_constants.bind(constants=rule.constants, **slots)), "split": split}


def _appended(more: tuple[Callable, ...]) -> Callable:
    """`(constants, hyper, T)` -> the constants with these behind them."""
    made: Callable = inlined(as_they_are.bind())
    for one in more:
        made = inlined(with_one_more.bind(before=made, one=one))
    return made


@template
def as_they_are():
    def as_they_are(constants, hyper, T):
        return constants

    return as_they_are


@template
def with_one_more(before, one):
    def with_one_more(constants, hyper, T):
        return before(constants, hyper, T) + (one(hyper, T),)  # noqa: RUF005  (numba unpacks no tuples here)

    return with_one_more


@template
def more_constants(constants, more, HYPER):
    def more_constants(hyper, T, options):
        return more(constants(part(hyper, 0, HYPER), T, options), hyper, T)

    return more_constants


@template
def once_of_first(once, HYPER):
    def once_of_first(hyper, options):
        return once(part(hyper, 0, HYPER), options)

    return once_of_first


@template
def more_constants_then(then, more, HYPER):
    def more_constants_then(hyper, made, T, options):
        return more(then(part(hyper, 0, HYPER), made, T, options), hyper, T)

    return more_constants_then


@template
def number_at(K):
    def number_at(hyper, T):
        return T(hyper[K])

    return number_at
