"""Steps with a guard on device arrays: what is checked, which kernels run, and what the device keeps of it.

Nothing is read back: the decision is made by one kernel and obeyed by the next (`guard_kernels`).
"""

from __future__ import annotations

import collections
import math
from typing import Any, NamedTuple

import numpy as np

from .. import validation
from ..kernels.reductions import BLOCK, COLUMNS
from ..kernels.rule import Rule
from . import device_array, driver, guard_kernels, launch, streams
from .compiler import Kernel
from .guard_kernels import CONTROL, DECIDED, DO_SKIP, PROPAGATE, UNDECIDED
from .hyper import CONSTANTS, Hyper, one_element

BLOCKS_PER_MULTIPROCESSOR = 32  # of 64 threads
KEPT = 64  # tables


class Wishes(NamedTuple):
    """What a guard asks for: its options; `grad_scale` is a number, or an array of one element on the device."""

    grad_scale: Any
    clip_norm: float
    clip_value: float
    nonfinite: str


class Report(NamedTuple):
    """What a guard found out in its last step on a device, and how many it skipped there."""

    norm: float
    nonfinite_count: int
    dot: float
    skipped: bool
    skipped_steps: int


class Memory:
    """What a guard keeps on one device: what it found, the sums of blocks, and tables of arrays.

    Its arrays are never moved or freed while it lives, but for tables that were not used for long: a captured graph
    may name them.
    """

    def __init__(self, device: int) -> None:
        self.device = device
        self.control = driver.current().upload(np.zeros(CONTROL), device)
        self._constants = driver.current().empty(CONSTANTS, np.float64, device)
        self.control_address, self.constants_address = address_of(self.control), address_of(self._constants)
        self._sums: list[Any] = []  # the last is the largest
        self._tables: collections.OrderedDict[bytes, Any] = collections.OrderedDict()

    def sums(self, blocks: int) -> int:
        """The address of memory for the sums of so many blocks."""
        if not self._sums or self._sums[-1].shape[0] < COLUMNS * blocks:
            self._sums.append(driver.current().empty(COLUMNS * max(256, 2 * blocks), np.float64, self.device))
        return address_of(self._sums[-1])

    def table(self, rows: np.ndarray) -> int:
        """The address of a copy of a table on the device."""
        key = rows.tobytes()
        if key not in self._tables:
            while len(self._tables) >= KEPT:
                self._tables.popitem(last=False)
            self._tables[key] = driver.current().upload(rows.reshape(-1), self.device)
        self._tables.move_to_end(key)
        return address_of(self._tables[key])

    def report(self) -> Report:
        """Waits for the device."""
        x = driver.current().download(self.control)
        return Report(
            norm=float(x[guard_kernels.NORM]),
            nonfinite_count=int(x[guard_kernels.COUNT]),
            dot=float(x[guard_kernels.PRODUCT]),
            skipped=bool(x[guard_kernels.SKIP]),
            skipped_steps=int(x[guard_kernels.SKIPPED]),
        )


def step(
    rule: Rule,
    options: tuple[Any, ...],
    groups: list[tuple[launch.Names, launch.Group]],
    given: dict[str, Any],
    stream: Any,
    wishes: Wishes,
    memories: dict[int, Memory],
) -> Memory | None:
    """Step groups of device arrays after checking everything; returns where it is written what was found out.

    That is one of the `memories` of the guard, by device; None where there is no element.
    """
    described = [(names, launch._described(names, group)) for names, group in groups]
    first = described[0][1]
    launch._alike(described)
    together = [(n, x) for names, parts in described for n, x in zip(names, parts, strict=True) if x is not None]
    exact = np.dtype("float64" if first[0].dtype == "float64" else "float32")
    validation.clipping_limits(wishes.clip_norm, wishes.clip_value, exact)
    hyper = Hyper(rule, options, given, exact)
    scale_in_memory = validation.is_device_array(wishes.grad_scale)
    scales = [("grad_scale", one_element("grad_scale", wishes.grad_scale, exact))] if scale_in_memory else []
    device_array.no_overlap([*together, *hyper.written()])
    filled = [parts for _, parts in described if parts[0].size > 0]
    if not filled:
        return None
    device = device_array.one_device([*together, *hyper.places(), *scales])
    here = driver.current()
    stream = streams.stream_of(stream, groups[0][1][0], device)
    if device not in memories:
        memories[device] = Memory(device)
    memory = memories[device]
    rows, blocks = _table(filled)
    storage, states = first[0].dtype, len(rule.states)
    table, sums, control = memory.table(rows), memory.sums(blocks), memory.control_address
    arrays = table, np.int64(len(filled)), np.int64(blocks)
    scale = 0.0 if scale_in_memory else float(wishes.grad_scale)
    skip = wishes.nonfinite != "propagate"
    decided = bool(hyper.arrays) or scale_in_memory or skip or wishes.clip_norm < math.inf
    decided = decided or not _ordinary(1.0 / scale, exact)

    wide = here.configuration(
        min(blocks, here.multiprocessors(device) * BLOCKS_PER_MULTIPROCESSOR), guard_kernels.THREADS
    )
    single = here.configuration(1, guard_kernels.THREADS)
    when = np.int64(DECIDED if decided else UNDECIDED)
    judge = (
        *(*arrays, 0, sums, control, np.float64(scale), scales[0][1].pointer if scales else 0, 0),
        *(np.float64(wishes.clip_norm), np.float64(wishes.clip_value)),
        *(np.int64(DO_SKIP if skip else PROPAGATE), when),
    )
    launches: list[tuple[Any, ...]] = []
    if decided:
        launches.append((guard_kernels.sums_kernel(storage, states), wide, *arrays, 0, sums))
        launches.append((guard_kernels.judge_kernel(storage, states, before=True), single, *judge))
    if hyper.arrays:
        launches.append((hyper.kernel(), here.configuration(1, 1), *hyper.arguments(memory.constants_address, control)))
    update = guard_kernels.step_kernel(rule, options, storage, first[-1] is not None, bool(hyper.arrays))
    factor = 1.0 / scale if scale else 1.0
    constants = [memory.constants_address] if hyper.arrays else hyper.constants
    pointers = (0,) * (states + 2)  # which only tell their types
    limit = np.float64(wishes.clip_value)
    launches.append((update, wide, *arrays, *pointers, sums, control, when, np.float64(factor), limit, *constants))
    launches.append((guard_kernels.judge_kernel(storage, states, before=False), single, *judge))
    loaded = [here.load(kernel, device) for kernel, *_ in launches]
    for kernel, (_, configuration, *arguments) in zip(loaded, launches, strict=True):
        here.launch(kernel, device, stream, configuration, *arguments)
    for _, (params, _, *written) in groups:
        validation.tell_torch(params, *written)
    return memory


def _table(filled: list[launch.Parts]) -> tuple[np.ndarray, int]:
    """The rows of `guard_kernels`, and how many blocks there are."""
    rows, blocks = [], 0
    for parts in filled:
        rows.append((blocks, parts[0].size, *(0 if x is None else x.pointer for x in parts)))
        blocks += -(-parts[0].size // BLOCK)
    return np.array(rows, np.int64), blocks


def _ordinary(x: float, exact: np.dtype) -> bool:
    """Is `x` among the normal numbers of a type?"""
    kind = np.finfo(exact)
    return bool(kind.tiny <= x <= kind.max)


def address_of(array: Any) -> int:
    return int(array.__cuda_array_interface__["data"][0])
