"""What every step can do beside its rule: rates for elements and groups, masks, bounds, proximal maps, averages.

`Composed` checks the arguments of a step on arrays of the host (`composed_arguments`), and starts the kernels: one pass
over memory, whatever was asked for.  `composed_on_device` does so on a device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import validation
from ..kernels.array_call import BoundCall
from ..kernels.jit import SIMULATOR
from ..kernels.statuses import HYPER
from . import _host
from .average import Average, Weighted
from .bounds import check_arrays
from .composed_arguments import Arguments, Composition, flat
from .composed_rows import Row, Together, starts_of
from .masks import mask_of, masks_of, part_of
from .optimizer import Optimizer

if TYPE_CHECKING:
    from .composed_on_device import ComposedOnDevice

NOTHING = Composition()
ALONE = ("stream", "master", "guard", "rounding", "compensation")  # what does not go with it
ON_DEVICE = ("stream", "master")  # of these, what goes with it on a device


def step_composed(
    optimizer: Optimizer,
    arrays: Sequence[Any],
    hyper: Mapping[str, Any],
    options: tuple[Any, ...],
    beside: Sequence[Any],
    given: Composition | None,
) -> None:
    """One step; `beside` are the arguments of a step that do not go with these."""
    composed_step(optimizer, arrays, hyper, options, beside, given).start(hyper)


def composed_step(
    optimizer: Optimizer,
    arrays: Sequence[Any],
    hyper: Mapping[str, Any],
    options: tuple[Any, ...],
    beside: Sequence[Any],
    given: Composition | None,
) -> Composed | ComposedOnDevice:
    """A step with everything that it was given, checked: `start(hyper)` runs it.

    `beside` are other arguments of a step, in the order of `ALONE`.
    """
    arguments = Arguments(optimizer, arrays, hyper, options, given or NOTHING)
    for name, x in zip(ALONE, beside, strict=True):
        if x is not None and not (arguments.on_device and name in ON_DEVICE):
            raise ValueError(
                f"{name} does not go with mask, bounds, prox, average, groups or arrays of rates; leave out one of them"
            )
    if not arguments.on_device:
        return Composed(arguments, hyper)
    if SIMULATOR:
        raise TypeError("mask, bounds, prox, average, groups and arrays of rates are not for arrays of the simulator")
    from .composed_on_device import ComposedOnDevice  # imports numba.cuda

    stream, master, *_ = beside
    return ComposedOnDevice(arguments, hyper, stream, master)


class Composed:
    """A step with everything that it was given, on arrays of the host: `start(hyper)` runs it."""

    def __init__(self, arguments: Arguments, hyper: Mapping[str, Any]) -> None:
        self._arguments, given = arguments, arguments.given
        kind, masks = masks_of(given.mask, arguments.lists, arguments.count)
        arguments.make_rule(kind)
        self.rule = arguments.rule
        named = self._columns()
        arguments.make_groups()
        rows = self._made_rows(named, masks)
        self._dtypes = [row.named[0][1].dtype for row in rows] or [validation.DTYPES[0]]
        self._all = [x for column in arguments.columns.values() for x in flat(column)]
        first = 2 + len(self.rule.states)
        for row in named:
            arrays = dict(zip(self.rule.inputs, row[first:], strict=True))
            check_arrays(arguments.optimizer.rule, arrays, arguments.numbers)
        self._starts = starts_of(self.rule, arguments.options, rows)
        if any("lower" in entry or "upper" in entry for entry in arguments.entries):  # which no kernel compares
            self.check(hyper)

    def _columns(self) -> list[list[tuple[str, np.ndarray]]]:
        """The arrays of each place of lists, with their names, all of one kind."""
        names = "params", "grads", *self.rule.states, *self.rule.inputs
        reads = {1, *range(2 + len(self.rule.states), len(names))}
        rows = []
        for given in self._arguments.rows_of_arrays():
            row = [(label, validation.host_array(label, x, write=k not in reads)) for k, (label, x) in enumerate(given)]
            validation.same_kind(row)
            rows.append(row)
        written = {label for row in rows for k, (label, _) in enumerate(row) if k not in reads}
        validation.no_overlap([pair for row in rows for pair in row], written=written)
        return rows

    def _made_rows(self, named: list[list[tuple[str, np.ndarray]]], masks: list[Any]) -> list[Row]:
        """One row for each place of lists, or for each run of segments of equal settings."""
        settings = self._arguments.groups.row_of
        if self._arguments.lists or self._arguments.given.groups is None:
            return [
                Row(row, mask_of(mask, row[0], self.rule.mask), k)
                for row, mask, k in zip(named, masks, settings, strict=True)
            ]
        (arrays,), (mask,) = named, masks
        mask = mask_of(mask, arrays[0], self.rule.mask)
        made, first = [], 0
        ends = np.cumsum([int(np.prod(shape, dtype=np.int64)) for _, shape in self._arguments.layout])
        for k, (end, own) in enumerate(zip(ends, settings, strict=True)):
            if k + 1 < len(settings) and settings[k + 1] == own:
                continue
            part = part_of(mask, first, end, self.rule.mask)
            made.append(Row([(name, x[first:end]) for name, x in arrays], part, own))
            first = end
        return made

    def check(self, hyper: Mapping[str, Any]) -> None:
        """Raise for unfit hyper-parameters."""
        self._arguments.check(self._arguments.rows(hyper), self._dtypes)

    def bound(self, hyper: Mapping[str, Any], followed: Mapping[str, str]) -> BoundCall | None:
        """The step as one compiled call, where it is one kernel; it does not count the steps of an average."""
        start = self._starts[0] if len(self._starts) == 1 else None
        if not isinstance(start, Together):
            return None
        if any(map(validation.is_tensor, self._all)):  # whose memory may be exchanged, and which counts its changes
            return None
        if self._arguments.given.groups is not None and not start.grouped:
            return None  # whose numbers, which are one row, are not those of the call
        names = list(self.rule.hyper)
        others = [names.index(followed[name]) if name in followed else -1 for name in names]
        numbers = tuple(float(x) for x in self._arguments.named_numbers(hyper).values())
        groups = (self._arguments.groups.sources, start.rows) if start.grouped else None
        return BoundCall(start.step, start.table, numbers, others, -1, groups)

    @property
    def average(self) -> Average | Weighted | None:
        """What every step adds to."""
        average: Average | Weighted | None = self._arguments.given.average
        return average

    def start(self, hyper: Mapping[str, Any]) -> None:
        """Step, with these hyper-parameters of the rule (arrays among them are those that were given)."""
        rows = self._arguments.rows(hyper)
        if len(self._starts) != 1:  # else the kernel looks at them, before it writes
            self._arguments.check(rows, self._dtypes)
        for start in self._starts:
            status = start(rows)
            if status == HYPER:
                self._arguments.check(rows, self._dtypes)
            _host.accepted(status)
        if self._arguments.given.average is not None:
            self._arguments.given.average.steps += 1
        validation.tell_torch(*self._arguments.written)
