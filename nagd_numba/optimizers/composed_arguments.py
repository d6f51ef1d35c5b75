"""The arguments of a step that does more than its rule: the rule that they make, its arrays, its numbers.

Nothing here looks into an array, so that arrays on the host and on a device are alike; what they must be is for
`composition` and `composed_on_device` to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import validation
from ..flat import FlatParams
from ..kernels.composed import Parts, composed
from .average import average_of
from .bounds import bounds_of, is_bound_array, kind_of, prox_of, rates_of
from .groups import Numbers, settings_of
from .optimizer import Optimizer

LISTS = (list, tuple)


class Composition(NamedTuple):
    """The arguments of a step, as they were given; see `nagd_numba.step`."""

    mask: Any = None
    lower: Any = None
    upper: Any = None
    prox: Any = None
    prox_weight: float | None = None
    average: Any = None
    groups: Any = None


class Arguments:
    """The arguments of one step.

    columns   the arrays (or lists of them) of the step by name: params, grads, and those of `rule`
    lists     did they come in lists?  `count` of them
    layout    that of a FlatParams
    on_device  are they all on a device?
    rule      the rule with everything, for masks of a kind, once `make_rule` was called
    groups    the hyper-parameters of each group, once `make_groups` was called; `entries` are their settings
    """

    def __init__(
        self,
        optimizer: Optimizer,
        arrays: Sequence[Any],
        hyper: Mapping[str, Any],
        options: tuple[Any, ...],
        given: Composition,
    ) -> None:
        self.optimizer, self.options = optimizer, options
        self.given = given = given._replace(average=average_of(given.average))
        params, grads, *states = arrays
        base = optimizer.rule
        self.layout: Any = params.layout if isinstance(params, FlatParams) else None
        self.lists = isinstance(params, LISTS)
        self.count = len(params) if self.lists else 1
        self.rates = rates_of(base, hyper)
        self.columns: dict[str, Any] = {"params": params, "grads": grads, **dict(zip(base.states, states, strict=True))}
        if given.average is not None:
            self.columns["average"] = given.average.value
        self.bounds = bounds_of(given.lower, given.upper, given.prox)
        self.columns |= {name: x for name, x in self.bounds.items() if is_bound_array(x)}
        self.columns |= {name: hyper[name] for name in self.rates}
        self.on_device = validation.any_on_device(list(self._named()))
        self.written = [x for name in ("params", *base.states) for x in flat(self.columns[name])]

    def _named(self) -> Any:
        """All arrays with their names."""
        for name, column in (*self.columns.items(), ("mask", self.given.mask)):
            if column is None or (name == "mask" and not isinstance(column, LISTS) and self.lists):
                continue
            for k, x in enumerate(flat(column)):
                label = f"{name}[{k}]" if isinstance(column, LISTS) else name
                yield label, x.flat if isinstance(x, FlatParams) else x

    def make_rule(self, mask: str) -> None:
        """Make the rule and the numbers, for masks of a kind (see `Rule.mask`)."""
        given, bounds = self.given, self.bounds
        self.rule = composed(
            self.optimizer.rule,
            Parts(
                lower=kind_of(bounds.get("lower")),
                upper=kind_of(bounds.get("upper")),
                prox=prox_of(given.prox, given.prox_weight, self.on_device),
                average=given.average is not None,
                rates=self.rates,
                mask=mask,
            ),
        )
        self.numbers = {name: x for name, x in bounds.items() if not is_bound_array(x)}
        if given.prox_weight is not None:
            self.numbers["prox_weight"] = given.prox_weight

    def rows_of_arrays(self) -> list[list[tuple[str, Any]]]:
        """The arrays at each place of lists, or of the step, with their names, in the order of the rule."""
        order = ("params", "grads", *self.rule.states, *self.rule.inputs)
        for name in order:
            x = self.columns[name]
            if self.lists != isinstance(x, LISTS) or (self.lists and len(x) != self.count):
                said = f"a list of {len(x)}" if isinstance(x, LISTS) else validation.type_of(x)
                wanted = f"a list of {self.count} arrays" if self.lists else "an array"
                raise TypeError(f"{name} is {said}; {wanted} is needed, as params is")
        rows = []
        for k in range(self.count):
            row = []
            for name in order:
                x = self.columns[name][k] if self.lists else self.columns[name]
                row.append((f"{name}[{k}]" if self.lists else name, x.flat if isinstance(x, FlatParams) else x))
            rows.append(row)
        return rows

    def make_groups(self) -> None:
        """Look at the settings of each segment, of each array of lists, or of all."""
        self.entries = self._entries()
        self.groups = Numbers(self.rule, self.optimizer.follows, self.entries)

    def _entries(self) -> list[dict[str, Any]]:
        groups, count = self.given.groups, self.count
        if groups is None:
            return [{}] * (count if self.layout is None else 1)
        if self.lists:
            if (
                not isinstance(groups, LISTS)
                or len(groups) != count
                or not all(x is None or isinstance(x, Mapping) for x in groups)
            ):
                raise TypeError(f"groups must be a list of {count} dicts of settings (or None), one for each array")
            entries = [dict(x or {}) for x in groups]
        elif self.layout is None:
            raise TypeError("groups needs params that are a FlatParams, whose segments have names, or a list of arrays")
        elif not isinstance(groups, Mapping):
            raise TypeError(f"groups is {validation.type_of(groups)}; a dict is needed: dict(W=dict(lr=0.1))")
        else:
            entries = settings_of([name for name, _ in self.layout], groups)
        able = [x for x in self.rule.hyper if x not in ("t", "average_weight") and x not in self.optimizer.choices]
        for entry in entries:
            for name in entry:
                if name not in able:
                    raise TypeError(f"groups names {name!r}, which they cannot set; there are {', '.join(able)}")
        return entries

    def named_numbers(self, hyper: Mapping[str, Any]) -> dict[str, Any]:
        """The hyper-parameters of the rule, without the settings of groups."""
        shared = dict(self.numbers)
        if self.given.average is not None:
            shared["average_weight"] = self.given.average.weight
        return {name: hyper[name] if name in hyper else shared.get(name, 0.0) for name in self.rule.hyper}

    def rows(self, hyper: Mapping[str, Any]) -> np.ndarray:
        """The hyper-parameters of each group."""
        named = self.named_numbers(hyper)
        return self.groups.rows([x if x.__class__ is float else validation.real(k, x) for k, x in named.items()])

    def check(self, rows: np.ndarray, dtypes: Sequence[np.dtype]) -> None:
        """Raise for unfit hyper-parameters, for arrays of these dtypes."""
        self.groups.check(rows, dtypes, self.options)


def flat(x: Any) -> list[Any]:
    """The arrays of a list, or the array."""
    return list(x) if isinstance(x, LISTS) else [x]
