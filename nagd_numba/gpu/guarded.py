"""Steps with a guard on device arrays: what is checked, which kernels run, and what the device keeps of it.

Nothing is read back: the decision is made by one kernel and obeyed by the next (`guard_kernels`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import validation
from ..kernels.loss_scale import Growth
from ..kernels.reductions import BLOCK, COLUMNS
from ..kernels.rule import Rule
from . import device_array, driver, guard_kernels, guard_scale, launch, repeats, streams, tables
from .compiler import Kernel
from .guard_kernels import CONTROL, DECIDED, DO_SKIP, PROPAGATE, THREADS, UNDECIDED
from .hyper import CONSTANTS, Hyper, one_element
from .in_memory import not_in_a_graph

BLOCKS_PER_MULTIPROCESSOR = 32  # of 64 threads


class Wishes(NamedTuple):
    """What a guard asks for: its options, and how many steps there were since the loss scale changed last.

    `grad_scale` is a number, or an array of one element on the device.
    """

    grad_scale: Any
    clip_norm: float
    clip_value: float
    nonfinite: str
    growth: Growth
    finite_steps: int


class Report(NamedTuple):
    """What a guard found out in its last step on a device, and how many it skipped there."""

    norm: float
    nonfinite_count: int
    dot: float
    skipped: bool
    skipped_steps: int
    finite_steps: int


class Memory:
    """What a guard keeps on one device: what it found, the sums of blocks, the constants of a step.

    Nothing of it is moved or freed while the guard lives: a captured graph may name it.
    """

    def __init__(self, here: Any, device: int, stream: int, finite_steps: int) -> None:
        not_in_a_graph(here, device, stream)
        self.device, self._here = device, here
        control = np.zeros(CONTROL)
        control[guard_kernels.FINITE_STEPS] = finite_steps
        self._control = here.upload(control, device, stream)
        self._constants = here.empty(CONSTANTS, np.float64, device, stream)
        self._sums: list[Any] = []  # the last is the largest
        self.control, self.constants = _address(self._control), _address(self._constants)

    def sums(self, blocks: int, stream: int) -> int:
        """The address of memory for the sums of so many blocks."""
        if not self._sums or self._sums[-1].shape[0] < COLUMNS * blocks:
            not_in_a_graph(self._here, self.device, stream)
            self._sums.append(self._here.empty(COLUMNS * max(256, 2 * blocks), np.float64, self.device, stream))
        return _address(self._sums[-1])

    def report(self) -> Report:
        """Waits for the device."""
        x = self._here.download(self._control)
        return Report(
            norm=float(x[guard_kernels.NORM]),
            nonfinite_count=int(x[guard_kernels.COUNT]),
            dot=float(x[guard_kernels.PRODUCT]),
            skipped=bool(x[guard_kernels.SKIP]),
            skipped_steps=int(x[guard_kernels.SKIPPED]),
            finite_steps=int(x[guard_kernels.FINITE_STEPS]),
        )


class GuardedLaunch:
    """The kernels of a step with a guard on checked arrays, which have elements."""

    def __init__(
        self,
        rule: Rule,
        options: tuple[Any, ...],
        filled: list[launch.Parts],
        hyper: Hyper,
        wishes: Wishes,
        scale_at: int,
        device: int,
        memories: dict[int, Memory],
    ) -> None:
        self.device = device
        self._here = here = driver.current()
        self._hyper, self._wishes, self._scale_at, self._memories = hyper, wishes, scale_at, memories
        storage, states, prepared = filled[0][0].dtype, len(rule.states), bool(hyper.arrays)
        self._rows, self._blocks = _table(filled)
        self._pointers = (0,) * (states + 2)  # which only tell their types
        scale = 0.0 if scale_at else float(wishes.grad_scale)
        self._scale, self._factor = scale, 1.0 / scale if scale else 1.0
        self._skip = wishes.nonfinite != "propagate"
        self._decided = prepared or scale_at != 0 or self._skip or wishes.clip_norm < math.inf
        self._decided = self._decided or not _ordinary(self._factor, hyper.exact)
        master = filled[0][-1] is not None
        kernels: list[Kernel | None] = [
            guard_kernels.sums_kernel(storage, states) if self._decided else None,
            guard_kernels.judge_kernel(storage, states, before=True) if self._decided else None,
            hyper.kernel() if prepared else None,
            guard_kernels.step_kernel(rule, options, storage, master, prepared),
            guard_kernels.judge_kernel(storage, states, before=False),
            guard_scale.scale_kernel(hyper.exact.name) if wishes.growth.interval > 0 else None,
        ]
        self._loaded = [None if kernel is None else here.load(kernel, device) for kernel in kernels]

    def start(self, stream: int, hyper: tuple[Any, ...] = ()) -> None:
        """Start them all; everything that may fail for want of memory comes first."""
        here, device, wishes, blocks = self._here, self.device, self._wishes, self._blocks
        if device not in self._memories:
            self._memories[device] = Memory(here, device, stream, wishes.finite_steps)
        memory = self._memories[device]
        sums, control = memory.sums(blocks, stream), memory.control
        most = here.multiprocessors(device) * BLOCKS_PER_MULTIPROCESSOR
        wide, single = here.configuration(min(blocks, most), THREADS), here.configuration(1, THREADS)
        when, limit = np.int64(DECIDED if self._decided else UNDECIDED), np.float64(wishes.clip_value)
        sum_up, decide, prepare, update, tell, rescale = self._loaded
        with tables.on_device(here, self._rows, device, stream) as (table,):
            arrays = table, np.int64(len(self._rows)), np.int64(blocks)
            judged = (
                *(*arrays, 0, sums, control, np.float64(self._scale), self._scale_at, 0),
                *(np.float64(wishes.clip_norm), limit, np.int64(DO_SKIP if self._skip else PROPAGATE), when),
            )
            if sum_up is not None:
                here.launch(sum_up, device, stream, wide, *arrays, 0, sums)
                here.launch(decide, device, stream, single, *judged)
            constants: tuple[Any, ...] = self._hyper.constants
            if prepare is not None:
                constants = (memory.constants,)
                made = self._hyper.arguments(memory.constants, control)
                here.launch(prepare, device, stream, here.configuration(1, 1), *made)
            given = *arrays, *self._pointers, sums, control, when, np.float64(self._factor), limit, *constants
            here.launch(update, device, stream, wide, *given)
            here.launch(tell, device, stream, single, *judged)
            if rescale is not None:
                factor, backoff, interval = wishes.growth
                growth = np.float64(factor), np.float64(backoff), np.int64(interval)
                here.launch(rescale, device, stream, here.configuration(1, 1), control, self._scale_at, *growth)


def step(
    rule: Rule,
    options: tuple[Any, ...],
    groups: list[tuple[launch.Names, repeats.Group]],
    given: dict[str, Any],
    stream: Any,
    wishes: Wishes,
    memories: dict[int, Memory],
) -> Memory | None:
    """Step groups of device arrays after checking everything; returns where it is written what was found out.

    That is one of the `memories` of the guard, by device; None where there is no element.
    """
    described, together, _ = launch.checked(rule, groups)
    first = described[0][1]
    exact = np.dtype("float64" if first[0].dtype == "float64" else "float32")
    validation.clipping_limits(wishes.clip_norm, wishes.clip_value, exact)
    hyper = Hyper(rule, options, given, exact)
    numbers = list(hyper.arrays.values())
    scales: list[tuple[str, device_array.DeviceMemory]] = []
    follows = wishes.growth.interval > 0
    if validation.is_device_array(wishes.grad_scale):
        scales.append(("grad_scale", one_element("grad_scale", wishes.grad_scale, exact, write=follows)))
        numbers.append(wishes.grad_scale)
    elif follows:
        raise TypeError(
            f"grad_scale is {wishes.grad_scale!r} and growth_interval {wishes.growth.interval}; for device arrays an "
            f"array of one element of {exact} on the device is needed, which each step may write to"
        )
    device_array.no_overlap([*together, *hyper.written(), *(scales if follows else [])])
    filled = [parts for _, parts in described if parts[0].size > 0]
    if not filled:
        return None
    device = device_array.one_device([*together, *hyper.places(), *scales])
    scale_at = scales[0][1].pointer if scales else 0
    everything = (*(x for _, group in groups for x in group), *numbers)
    if wishes.nonfinite == "raise":
        _not_captured(everything[0], stream, device)
    made = GuardedLaunch(rule, options, filled, hyper, wishes, scale_at, device, memories)
    repeats.start_in_order(made, streams.Sources(everything), everything, stream, ())
    for _, (params, _, *written) in groups:
        validation.tell_torch(params, *written)
    if follows:
        validation.tell_torch(wishes.grad_scale)
    return memories[device]


def _not_captured(params: Any, stream: Any, device: int) -> None:
    """Raise where a graph takes the step: nothing could be read back."""
    if driver.current().capturing(streams.stream_of(stream, params, device), device):
        raise ValueError('nonfinite="raise" reads what the device found, which no captured graph can: use "skip"')


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


def _address(array: Any) -> int:
    return int(array.__cuda_array_interface__["data"][0])
