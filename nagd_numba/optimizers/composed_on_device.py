"""A step with everything that it was given, on device arrays: a launch for each settings of groups, mostly one.

The values of arrays stay where they are, so that nobody looks at them before the step: an element whose rate is out of
its range keeps its value and its states, and where a lower bound is above the upper one the upper one holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import types

from .. import validation
from ..gpu import compiler, device_array, driver, in_memory, launch, repeats, streams
from ..kernels.array_call import BoundCall
from ..kernels.jit import plain
from .composed_arguments import Arguments
from .masks import places_of_masks

Groups = list[tuple[launch.Names, repeats.Group]]


class Part(NamedTuple):
    """The arrays that are stepped with one row of hyper-parameters."""

    row: int
    groups: Groups
    everything: repeats.Group
    key: Any  # of `repeats.known`


class ComposedOnDevice:
    """A step on arrays of a device: `start(hyper)` runs it, on a stream that was given or found."""

    def __init__(self, arguments: Arguments, hyper: Mapping[str, Any], stream: Any, master: Any) -> None:
        self._arguments, self._stream = arguments, stream
        arguments.make_rule("" if arguments.given.mask is None else "bytes")
        self.rule = arguments.rule
        self._groups = self._made_groups(master)
        arguments.make_groups()
        low, high = (arguments.numbers.get(name) for name in ("lower", "upper"))
        if low is not None and high is not None and low > high:
            raise ValueError(f"lower is {low!r}, above upper, {high!r}; lower <= upper is needed")
        self._parts = self._made_parts()
        self._prepared: list[tuple[Part, repeats.Prepared]] = []
        if self.rule.of_users and any(part.key not in repeats.known for part in self._parts):
            self._check_prox()
        self._in_memory = any(map(validation.is_device_array, arguments.named_numbers(hyper).values()))
        if not self._in_memory:
            self._prepare(self._rows(hyper))
            if stream is not None and self._prepared:
                part, prepared = self._prepared[0]
                self._stream = streams.stream_of(stream, part.everything[0], prepared.launch.device)
        elif len(self._parts) > 1:
            raise ValueError("groups set numbers, and there is a hyper-parameter in device memory: pass a number")

    def _made_groups(self, master: Any) -> Groups:
        """The arrays at each place of lists, with their names."""
        arguments, lists, count = self._arguments, self._arguments.lists, self._arguments.count
        rows = arguments.rows_of_arrays()
        mask = arguments.given.mask
        beside: dict[str, list[Any]] = {} if mask is None else {"mask": places_of_masks(mask, lists, count)}
        beside["master"] = [None] * count if master is None else list(master) if lists else [master]
        if len(beside["master"]) != count:
            raise TypeError(f"params is a list of {count} and master has {len(beside['master'])}")
        made = []
        for k, row in enumerate(rows):
            row += [(f"{name}[{k}]" if lists else name, column[k]) for name, column in beside.items()]
            names, arrays = zip(*row, strict=True)
            made.append((names, arrays))
        return made

    def _made_parts(self) -> list[Part]:
        """The groups of each row of hyper-parameters."""
        of_rows: dict[int, Groups] = {}
        for group, row in zip(self._groups, self._arguments.groups.row_of, strict=True):
            of_rows.setdefault(row, []).append(group)
        parts = []
        for row, groups in of_rows.items():
            everything = repeats.flattened(tuple(zip(*(group for _, group in groups), strict=True)))
            key = self.rule, self._arguments.options, len(groups), self._arguments.lists, tuple(map(id, everything))
            parts.append(Part(row, groups, everything, key))
        return parts

    def _check_prox(self) -> None:
        """Raise for a function of the user's that no kernel can call."""
        _, together, _ = launch.checked(self.rule, self._groups)
        kind = types.float64 if together[0][1].dtype == "float64" else types.float32
        capability = driver.current().capability(device_array.one_device(together))
        try:
            made = compiler.returned(plain(self._arguments.given.prox), (kind, kind), capability)
        except Exception as error:  # Numba's errors have no common public type
            lines = [line.strip() for line in str(error).splitlines()]
            said = next((line for line in lines if line and "pipeline" not in line), type(error).__name__)
            raise TypeError(
                f"prox cannot be compiled for a CUDA device and the call prox(x, lr) of two {kind}: {said}\n"
                f"Functions there have numbers and math, not all of NumPy"
            ) from error
        if not isinstance(made, types.Float | types.Integer):
            raise TypeError(f"prox returns {made}; a real number is needed")

    def _prepare(self, rows: list[tuple[float, ...]]) -> None:
        """Check all arrays, but those that were met before, and prepare the launches."""
        rule, options, lists = self.rule, self._arguments.options, self._arguments.lists
        known = [repeats.known.get(part.key) for part in self._parts]
        if len(self._parts) > 1 and None in known:
            _, together, shared = launch.checked(rule, self._groups)
            device_array.no_overlap(together, shared)
            device_array.one_device(together)
        self._prepared = []
        for part, found in zip(self._parts, known, strict=True):
            if found is not None and not found.moved(part.everything):
                self._prepared.append((part, found))
                continue
            made = launch.Launch(rule, options, part.groups, rows[part.row], lists)
            if made.ready:
                repeats.remember(made, part.key, part.everything, len(part.groups))
                prepared = repeats.known.get(part.key) or repeats.Prepared(made, part.everything, len(part.groups))
                self._prepared.append((part, prepared))

    def _rows(self, hyper: Mapping[str, Any]) -> list[tuple[float, ...]]:
        """The hyper-parameters of each group."""
        if self._arguments.given.groups is not None:
            return [tuple(row) for row in self._arguments.rows(hyper).tolist()]
        named = self._arguments.named_numbers(hyper)
        return [tuple([x if x.__class__ is float else validation.real(name, x) for name, x in named.items()])]

    def _dtypes(self) -> list[np.dtype]:
        return [prepared.launch.exact for _, prepared in self._prepared] or [validation.DTYPES[0]]

    def check(self, hyper: Mapping[str, Any]) -> None:
        """Raise for unfit hyper-parameters."""
        self._arguments.check(self._arguments.rows(hyper), self._dtypes())

    def bound(self, hyper: Mapping[str, Any], followed: Mapping[str, str]) -> BoundCall | None:
        """There is no compiled call, which is for arrays of the host."""
        return None

    def start(self, hyper: Mapping[str, Any]) -> None:
        """Step, with these hyper-parameters of the rule (arrays among them are those that were given)."""
        average = self._arguments.given.average
        if self._in_memory:
            self._start_in_memory(self._arguments.named_numbers(hyper))
        else:
            rows = self._rows(hyper)
            if len(self._parts) > 1 or not self._prepared:  # else the kernel's launch looks at them
                self.check(hyper)
            if any(prepared.moved(part.everything) for part, prepared in self._prepared):
                self._prepare(rows)
            if average is not None:
                for part, prepared in self._prepared:
                    self._not_captured(part.everything[0], prepared.launch.device)
            for part, prepared in self._prepared:
                prepared.step(part.everything, rows[part.row], self._stream)
        if average is not None:
            average.steps += 1

    def _start_in_memory(self, named: dict[str, Any]) -> None:
        """The same where a hyper-parameter lies in the device's memory."""
        rule, arguments = self.rule, self._arguments
        if arguments.given.average is not None:
            together = launch.checked(rule, self._groups)[1]
            self._not_captured(self._groups[0][1][0], device_array.one_device(together))
        in_memory.apply(rule, arguments.options, self._groups, named, self._stream, arguments.lists)

    def _not_captured(self, params: Any, device: int) -> None:
        """Raise where a graph takes a step whose weight of the average is that of one step."""
        if driver.current().capturing(streams.stream_of(self._stream, params, device), device):
            raise ValueError(
                "average: a graph is being captured, which would repeat the weight of one step: step outside of it"
            )
