"""Steps whose hyper-parameters lie in the device's memory: one kernel makes the rule's constants, the next uses them.

So a captured graph follows what is written to a learning rate, and counts its steps.  The constants lie in places of
their own, one for each array that is stepped, which are never freed: a graph may name them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.rule import Rule
from . import device_array, driver, elementwise, launch, repeats, streams, tables
from .hyper import CONSTANTS, Hyper

_AT_ONCE = 256  # places


class Places:
    """Memory for the constants of steps."""

    def __init__(self) -> None:
        self._of: dict[tuple[Any, ...], int] = {}
        self._free: dict[tuple[Any, int], list[int]] = {}
        self._memory: list[Any] = []

    def place(self, here: Any, device: int, stream: int, *key: Any) -> int:
        """An address on a device, the same for equal keys."""
        place = self._of.get((here, device, *key))
        if place is None:
            free = self._free.setdefault((here, device), [])
            if not free:
                not_in_a_graph(here, device, stream)
                made = here.empty(CONSTANTS * _AT_ONCE, np.float64, device, stream)
                self._memory.append(made)
                first = int(made.__cuda_array_interface__["data"][0])
                free.extend(range(first, first + 8 * CONSTANTS * _AT_ONCE, 8 * CONSTANTS))
            place = self._of[(here, device, *key)] = free.pop()
        return place


places = Places()


def not_in_a_graph(here: Any, device: int, stream: int) -> None:
    """Raise where memory would have to be allocated while a graph is captured."""
    if here.capturing(stream, device):
        raise ValueError("the step needs new memory, and a graph is being captured: step once before the capture")


class LaunchInMemory:
    """The two kernels of a step on checked arrays."""

    def __init__(
        self,
        rule: Rule,
        options: tuple[Any, ...],
        described: list[launch.Parts],
        hyper: Hyper,
        device: int,
        lists: bool,
    ) -> None:
        self.device, self._hyper = device, hyper
        here, first = driver.current(), described[0]
        self._here = here
        kernel = elementwise.kernel(rule, options, first[0].dtype, first[-1] is not None, lists, in_memory=True)
        self._prepare, self._update = (here.load(x, device) for x in (hyper.kernel(), kernel))
        self._key = (rule.name, options, tuple(x.pointer for x in first if x is not None))
        self._rows, self._arguments, blocks = launch.described_for_kernel(described, lists)
        self._grid = launch.most_blocks(here, device, blocks)

    def start(self, stream: int, hyper: tuple[Any, ...] = ()) -> None:
        """Start both."""
        here, device = self._here, self.device
        out = places.place(here, device, stream, *self._key)
        configuration = here.configuration(self._grid, elementwise.THREADS)
        with tables.on_device(here, self._rows, device, stream) as table:
            here.launch(self._prepare, device, stream, here.configuration(1, 1), *self._hyper.arguments(out))
            here.launch(self._update, device, stream, configuration, *table, *self._arguments, out)


def apply(
    rule: Rule,
    options: tuple[Any, ...],
    groups: list[tuple[launch.Names, repeats.Group]],
    given: dict[str, Any],
    stream: Any,
    lists: bool,
) -> None:
    """`launch.apply` with hyper-parameters some of which are arrays on the device."""
    described, together, shared = launch.checked(rule, groups)
    first = described[0][1]
    hyper = Hyper(rule, options, given, np.dtype("float64" if first[0].dtype == "float64" else "float32"))
    device_array.no_overlap([*together, *hyper.written()], shared)
    filled = [parts for _, parts in described if parts[0].size > 0]
    if filled:
        device = device_array.one_device([*together, *hyper.places()])
        made = LaunchInMemory(rule, options, filled, hyper, device, lists)
        everything = (*(x for _, group in groups for x in group), *hyper.arrays.values())
        repeats.start_in_order(made, streams.Sources(everything), everything, stream, ())
    launch.tell_torch(rule, groups)
