"""What every step can do beside its rule: rates for elements and groups, masks, bounds, proximal maps, averages.

`Composed` turns the arguments of a step into one rule (`kernels.composed`) and the arrays that it goes through, checks
all of them, and starts the kernels: one pass over memory, whatever was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import validation
from ..flat import FlatParams
from ..kernels.array_call import BoundCall
from ..kernels.composed import Parts, composed
from ..kernels.elementwise import HYPER
from . import _host
from .average import average_of
from .bounds import bounds_of, check_arrays, is_array, kind_of, prox_of, rates_of
from .composed_rows import Row, Together, starts_of
from .groups import Numbers, settings_of
from .masks import LISTS, mask_of, masks_of, part_of
from .optimizer import Optimizer


class Composition(NamedTuple):
    """The arguments of a step, as they were given; see `nagd_numba.step`."""

    mask: Any = None
    lower: Any = None
    upper: Any = None
    prox: Any = None
    prox_weight: float | None = None
    average: Any = None
    groups: Any = None


NOTHING = Composition()
ALONE = ("stream", "master", "guard", "rounding", "compensation")  # what does not go with it


def step_composed(
    optimizer: Optimizer,
    arrays: Sequence[Any],
    hyper: Mapping[str, Any],
    options: tuple[Any, ...],
    beside: Sequence[Any],
    given: Composition | None,
) -> None:
    """One step; `beside` are the arguments of a step that do not go with these."""
    not_beside(beside)
    params, grads, *states = arrays
    Composed(optimizer, params, grads, states, hyper, options, given or NOTHING).start(hyper)


def not_beside(given: Sequence[Any]) -> None:
    """Raise for arguments of a step that do not go with those of a `Composition`."""
    for name, x in zip(ALONE, given, strict=True):
        if x is not None:
            raise ValueError(
                f"{name} does not go with mask, bounds, prox, average, groups or arrays of rates; leave out one of them"
            )


class Composed:
    """A step with everything that it was given, on checked arrays of the host: `start(hyper)` runs it."""

    def __init__(
        self,
        optimizer: Optimizer,
        params: Any,
        grads: Any,
        states: Sequence[Any],
        hyper: Mapping[str, Any],
        options: tuple[Any, ...],
        given: Composition,
    ) -> None:
        given = given._replace(average=average_of(given.average))
        self._optimizer, self._options, self._given = optimizer, options, given
        base = optimizer.rule
        _on_host([params, grads, states, given.mask, given.lower, given.upper, *hyper.values()])
        layout = params.layout if isinstance(params, FlatParams) else None
        self._lists = isinstance(params, LISTS)
        count = len(params) if self._lists else 1
        rates = rates_of(base, hyper)
        columns: dict[str, Any] = {"params": params, "grads": grads, **dict(zip(base.states, states, strict=True))}
        if given.average is not None:
            columns["average"] = given.average.value
        bounds = bounds_of(given.lower, given.upper, given.prox)
        columns |= {name: x for name, x in bounds.items() if is_array(x)}
        columns |= {name: hyper[name] for name in rates}
        kind, masks = masks_of(given.mask, self._lists, count)
        self.rule = composed(
            base,
            Parts(
                lower=kind_of(bounds.get("lower")),
                upper=kind_of(bounds.get("upper")),
                prox=prox_of(given.prox, given.prox_weight),
                average=given.average is not None,
                rates=rates,
                mask=kind,
            ),
        )
        self._numbers = {name: x for name, x in bounds.items() if not is_array(x)}
        if given.prox_weight is not None:
            self._numbers["prox_weight"] = given.prox_weight
        named = self._columns(columns, count)
        entries = self._entries(layout, count)
        self._groups = Numbers(self.rule, optimizer.follows, entries)
        rows = self._made_rows(named, masks, self._groups.row_of, layout)
        self._dtypes = [row.named[0][1].dtype for row in rows] or [validation.DTYPES[0]]
        self._written = [x for name in ("params", *base.states) for x in _flat(columns[name])]
        self._all = [x for column in columns.values() for x in _flat(column)]
        first = 2 + len(self.rule.states)
        for row in named:
            check_arrays(base, dict(zip(self.rule.inputs, row[first:], strict=True)), self._numbers)
        self._starts = starts_of(self.rule, options, rows)
        if any("lower" in entry or "upper" in entry for entry in entries):  # which no kernel compares
            self.check(hyper)

    def _columns(self, columns: dict[str, Any], count: int) -> list[list[tuple[str, np.ndarray]]]:
        """The arrays of each place of lists, with their names, all of one kind."""
        order = ("params", "grads", *self.rule.states, *self.rule.inputs)
        written = {"params", *self.rule.states}
        rows = []
        for name in order:
            x = columns[name]
            if self._lists != isinstance(x, LISTS) or (self._lists and len(x) != count):
                said = f"a list of {len(x)}" if isinstance(x, LISTS) else validation.type_of(x)
                wanted = f"a list of {count} arrays" if self._lists else "an array"
                raise TypeError(f"{name} is {said}; {wanted} is needed, as params is")
        for k in range(count):
            row = []
            for name in order:
                x = columns[name][k] if self._lists else columns[name]
                x = x.flat if isinstance(x, FlatParams) else x
                label = f"{name}[{k}]" if self._lists else name
                row.append((label, validation.host_array(label, x, write=name in written)))
            validation.same_kind(row)
            rows.append(row)
        every = [pair for row in rows for pair in row]
        step = len(order)
        names = {label for place, (label, _) in enumerate(every) if order[place % step] in written}
        validation.no_overlap(every, written=names)
        return rows

    def _entries(self, layout: Any, count: int) -> list[dict[str, Any]]:
        """The settings of each segment, of each array of lists, or of all."""
        groups = self._given.groups
        if groups is None:
            return [{}] * (count if layout is None else 1)
        if self._lists:
            if (
                not isinstance(groups, LISTS)
                or len(groups) != count
                or not all(x is None or isinstance(x, Mapping) for x in groups)
            ):
                raise TypeError(f"groups must be a list of {count} dicts of settings (or None), one for each array")
            entries = [dict(x or {}) for x in groups]
        elif layout is None:
            raise TypeError("groups needs params that are a FlatParams, whose segments have names, or a list of arrays")
        elif not isinstance(groups, Mapping):
            raise TypeError(f"groups is {validation.type_of(groups)}; a dict is needed: dict(W=dict(lr=0.1))")
        else:
            entries = settings_of([name for name, _ in layout], groups)
        able = [x for x in self.rule.hyper if x not in ("t", "average_weight") and x not in self._optimizer.choices]
        for entry in entries:
            for name in entry:
                if name not in able:
                    raise TypeError(f"groups names {name!r}, which they cannot set; there are {', '.join(able)}")
        return entries

    def _made_rows(
        self, named: list[list[tuple[str, np.ndarray]]], masks: list[Any], settings: list[int], layout: Any
    ) -> list[Row]:
        """One row for each place of lists, or for each run of segments of equal settings."""
        if self._lists or self._given.groups is None:
            return [
                Row(row, mask_of(mask, row[0], self.rule.mask), k)
                for row, mask, k in zip(named, masks, settings, strict=True)
            ]
        (arrays,), (mask,) = named, masks
        mask = mask_of(mask, arrays[0], self.rule.mask)
        made, first = [], 0
        ends = np.cumsum([int(np.prod(shape, dtype=np.int64)) for _, shape in layout])
        for k, (end, own) in enumerate(zip(ends, settings, strict=True)):
            if k + 1 < len(settings) and settings[k + 1] == own:
                continue
            part = part_of(mask, first, end, self.rule.mask)
            made.append(Row([(name, x[first:end]) for name, x in arrays], part, own))
            first = end
        return made

    def _rows(self, hyper: Mapping[str, Any]) -> np.ndarray:
        """The hyper-parameters of each group."""
        shared = dict(self._numbers)
        if self._given.average is not None:
            shared["average_weight"] = self._given.average.weight
        both = [(name, hyper[name] if name in hyper else shared.get(name, 0.0)) for name in self.rule.hyper]
        return self._groups.rows([x if x.__class__ is float else validation.real(name, x) for name, x in both])

    def check(self, hyper: Mapping[str, Any]) -> None:
        """Raise for unfit hyper-parameters."""
        self._groups.check(self._rows(hyper), self._dtypes, self._options)

    def bound(self, hyper: Mapping[str, Any], followed: Mapping[str, str]) -> BoundCall | None:
        """The step as one compiled call, where it is one kernel whose numbers do not change by themselves."""
        start = self._starts[0] if len(self._starts) == 1 else None
        if not isinstance(start, Together) or self._given.average is not None or self._given.groups is not None:
            return None
        if any(map(validation.is_tensor, self._all)):  # whose memory may be exchanged, and which counts its changes
            return None
        names = list(self.rule.hyper)
        others = [names.index(followed[name]) if name in followed else -1 for name in names]
        return BoundCall(start.step, start.table, tuple(map(float, self._rows(hyper)[0])), others, -1)

    def start(self, hyper: Mapping[str, Any]) -> None:
        """Step, with these hyper-parameters of the rule (arrays among them are those that were given)."""
        rows = self._rows(hyper)
        if len(self._starts) != 1:  # else the kernel looks at them, before it writes
            self._groups.check(rows, self._dtypes, self._options)
        for start in self._starts:
            status = start(rows)
            if status == HYPER:
                self._groups.check(rows, self._dtypes, self._options)
            _host.accepted(status)
        if self._given.average is not None:
            self._given.average.steps += 1
        validation.tell_torch(*self._written)


def _flat(x: Any) -> list[Any]:
    return list(x) if isinstance(x, LISTS) else [x]


def _on_host(arrays: Sequence[Any]) -> None:
    """Raise for arrays on a device."""
    for x in arrays:
        for y in _flat(x):
            for z in _flat(getattr(y, "flat", y) if isinstance(y, FlatParams) else y):
                if validation.is_device_array(z):
                    raise TypeError(
                        "mask, bounds, prox, average, groups and rates for elements are for arrays on the host; "
                        "got CUDA arrays"
                    )
