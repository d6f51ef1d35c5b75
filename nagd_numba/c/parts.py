"""What C functions do beside their rule: words, which are also the ends of their names.

lr_array, weight_decay_array   a rate for each element
lower, upper                   bounds, as numbers
lower_array, upper_array       bounds for each element
l1, scaled_l1                  soft thresholding
average                        an average of the parameters
mask                           a byte for each element: 0 where it stays
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator

from ..kernels.composed import ARRAY, L1, NUMBER, SCALED_L1, Parts, composed
from ..optimizers.optimizer import Optimizer
from ..optimizers.registry import OPTIMIZERS, RULES

_ARRAY = "_array"
_RATES = tuple(dict.fromkeys(f"{x}{_ARRAY}" for rule in RULES.values() for x in rule.elementwise))
# Of each group at most one.
_GROUPS = (
    *((x,) for x in _RATES),
    ("lower", "lower_array"),
    ("upper", "upper_array"),
    (L1, SCALED_L1),
    ("average",),
    ("mask",),
)
WORDS = tuple(word for group in _GROUPS for word in group)


def ordered(words: Collection[str]) -> tuple[str, ...]:
    """The words in the order of names; raises for unknown ones, and for two that do not go together."""
    for word in words:
        if word not in WORDS:
            near = difflib.get_close_matches(str(word), WORDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{word!r} is no part of a step; one of {', '.join(WORDS)} is needed{hint}")
    for group in _GROUPS:
        if len(given := [x for x in group if x in words]) > 1:
            raise ValueError(f"{given[0]} and {given[1]} are given: leave out one of them")
    return tuple(x for x in WORDS if x in words)


def split(name: str) -> tuple[str, tuple[str, ...]]:
    """A name, and the words at its end."""
    ends = "".join(f"(?:_({'|'.join(sorted(group, reverse=True))}))?" for group in _GROUPS)
    found = re.fullmatch(rf"(\w+?_f(?:32|64)){ends}", name)
    if found is None:
        return name, ()
    return found[1], tuple(x for x in found.groups()[1:] if x)


def parts_of(words: Collection[str]) -> Parts:
    """The same for `composed`."""
    lower, upper = (ARRAY if f"{x}{_ARRAY}" in words else NUMBER if x in words else "" for x in ("lower", "upper"))
    return Parts(
        lower=lower,
        upper=upper,
        prox=next((x for x in (L1, SCALED_L1) if x in words), ""),
        average="average" in words,
        rates=tuple(x.removesuffix(_ARRAY) for x in _RATES if x in words),
        mask="bytes" if "mask" in words else "",
    )


def able(words: Collection[str]) -> Iterator[Optimizer]:
    """The optimizers whose steps can be composed so."""
    parts = parts_of(words)
    for optimizer in OPTIMIZERS.values():
        own = parts.prox and "prox" in optimizer.settings
        if own or not {*parts.rates} <= {*optimizer.rule.elementwise}:
            continue
        try:
            composed(optimizer.rule, parts)
        except ValueError:  # of a rule without a scale for elements
            continue
        yield optimizer
