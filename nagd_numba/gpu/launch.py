"""Update rules on device arrays: the checks, and the launch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import validation
from ..kernels import cuda_launch
from ..kernels.rule import Rule
from . import device_array, driver, elementwise, repeats, streams
from .device_array import EXACT, HALF
from .repeats import Group
from .tables import Memory

BLOCKS_PER_MULTIPROCESSOR = 8
MASKS = ("bool", "uint8")
_TABLE = cuda_launch.ARGUMENTS  # the word of a record of a list that is the table's address

Names = tuple[str, ...]
Parts = tuple[Any, ...]  # the descriptions of a group


class Launch:
    """A rule's kernel on the arrays of one step, or on a list of such groups; the hyper-parameters may change."""

    def __init__(
        self,
        rule: Rule,
        options: tuple[Any, ...],
        groups: list[tuple[Names, Group]],
        hyper: tuple[Any, ...],
        lists: bool,
    ) -> None:
        described, together, shared = checked(rule, groups)
        device_array.no_overlap(together, shared)
        self.rule, self.options = rule, options
        self.only_read = only_read(rule)
        first = described[0][1]
        self.exact = np.dtype("float64" if first[0].dtype == "float64" else "float32")
        self.hyper = self.check(hyper)  # of the first start
        filled = [parts for _, parts in described if parts[0].size > 0]
        self.ready = bool(filled)
        if not filled:
            return
        self.driver = here = driver.current()
        self.device = device_array.one_device(together)
        kernel = elementwise.kernel(rule, options, first[0].dtype, first[-1] is not None, lists)
        loaded = here.load(kernel, self.device)
        self._memory: Memory | None = None
        self._rows, arguments, blocks = described_for_kernel(filled, lists)
        table = (0,) if lists else ()  # its address, known at the start
        configuration = here.configuration(most_blocks(here, self.device, blocks), elementwise.THREADS)
        self._record = here.record(loaded, self.device, configuration, *table, *arguments)
        self._address = self._record.ctypes.data
        self._entries = here.entries
        self._kernel = cuda_launch.rule_kernel(rule, options, self.exact)

    def check(self, hyper: tuple[Any, ...]) -> tuple[float, ...]:
        """The hyper-parameters as floats; raises for values out of range."""
        named = dict(zip(self.rule.hyper, hyper, strict=True))
        values = validation.hyper_parameters(named, self.exact, self.rule.range_of)
        self.rule.scalars(values, self.exact, self.options)
        return values

    def start(self, stream: int, hyper: tuple[Any, ...]) -> None:
        """Start the kernel; TypeError where the hyper-parameters are no Python floats."""
        if self._rows is not None:
            self._start_list(self._rows, stream, hyper)
            return
        status = self._kernel(self._entries, self._address, stream, hyper)
        if status:
            self.failed(status, hyper)

    def on(self, stream: int, floats: bool = False) -> Callable[[tuple[float, ...]], int] | None:
        """`start` on a stream as one call that returns a status, where that is possible.

        With `floats` hyper-parameters that are no Python floats are the caller's to keep out.
        """
        if self._rows is not None:
            return None
        kernel = cuda_launch.without_dispatch(self._kernel) if floats else self._kernel
        return functools.partial(kernel, self._entries, self._address, stream)

    def failed(self, status: int, hyper: tuple[Any, ...]) -> None:
        """Raise what a status tells."""
        if status == cuda_launch.HYPER:
            self.check(hyper)
        raise self.driver.launch_error(status)

    def _start_list(self, rows: np.ndarray, stream: int, hyper: tuple[Any, ...]) -> None:
        """With the table of addresses where the kernel can read it, until it is done."""
        here, device, memory = self.driver, self.device, self._memory
        capturing = here.capturing(stream, device)
        if memory is None and capturing:
            with here.copied_in_graph(rows, device, stream) as address:
                record = self._record.copy()
                record[_TABLE] = address
                status = self._kernel(self._entries, record.ctypes.data, stream, hyper)
            if status:
                self.failed(status, hyper)
            return
        if memory is None:
            memory = Memory(here, rows.nbytes, device, stream)
            here.send(memory.address, rows, device, stream)
            self._record[_TABLE] = memory.address
            self._memory = memory
        elif capturing:  # the graph knows only its address
            here.keep(self, device, stream)
        elif stream != memory.stream:
            memory.moved = True
            here.order(memory.stream, stream, device)
        status = self._kernel(self._entries, self._address, stream, hyper)
        if status:
            self.failed(status, hyper)


def apply(
    rule: Rule,
    options: tuple[Any, ...],
    groups: list[tuple[Names, Group]],
    hyper: tuple[Any, ...],
    stream: Any,
    key: Any,
    lists: bool = False,
) -> None:
    """Check the arrays of a step, or of several in one launch, then launch the rule's kernel on them.

    `key` is what `repeats.known` will be asked for.
    """
    launch = Launch(rule, options, groups, hyper, lists)
    everything = repeats.flattened(tuple(zip(*(group for _, group in groups), strict=True)))
    if launch.ready:
        repeats.start_in_order(launch, streams.Sources(everything), everything, stream, launch.hyper)
    tell_torch(rule, groups)
    if launch.ready:
        repeats.remember(launch, key, everything, len(groups))


def prepare(
    rule: Rule,
    options: tuple[Any, ...],
    groups: list[tuple[Names, Group]],
    hyper: tuple[float, ...],
    stream: Any,
    lists: bool,
) -> Callable[[tuple[float, ...]], None]:
    """The same, to be started with the hyper-parameters."""
    launch = Launch(rule, options, groups, hyper, lists)
    if not launch.ready:

        def check(values: tuple[float, ...]) -> None:
            launch.check(values)

        return check
    everything = repeats.flattened(tuple(zip(*(group for _, group in groups), strict=True)))
    prepared = repeats.Prepared(launch, everything, len(groups))
    handle = None if stream is None else streams.stream_of(stream, everything[0], launch.device)
    sources = prepared.sources
    if not prepared.moving and sources.alone and (sources.default if handle is None else not sources.named):
        return _started(launch, handle or 0)

    def start(values: tuple[float, ...]) -> None:
        nonlocal prepared
        if not prepared.step(everything, values, handle):
            launch = Launch(rule, options, groups, values, lists)
            prepared = repeats.Prepared(launch, everything, len(groups))
            prepared.step(everything, values, handle)

    return start


def _started(launch: Launch, stream: int) -> Callable[[tuple[float, ...]], None]:
    """`launch.start` on a stream."""
    on_stream = launch.on(stream, floats=True)
    if on_stream is None:
        return functools.partial(launch.start, stream)

    def start(values: tuple[float, ...]) -> None:
        status = on_stream(values)
        if status:
            launch.failed(status, values)

    return start


def only_read(rule: Rule) -> frozenset[int]:
    """The places of the arrays of a group that a step does not write to."""
    first = 2 + len(rule.states)
    return frozenset({1, *range(first, first + len(rule.inputs) + bool(rule.mask))})


def tell_torch(rule: Rule, groups: list[tuple[Names, Group]]) -> None:
    """Tell PyTorch which tensors were written."""
    reads = only_read(rule)
    for _, group in groups:
        validation.tell_torch(*(x for k, x in enumerate(group) if k not in reads))


def checked(
    rule: Rule, groups: list[tuple[Names, Group]]
) -> tuple[list[tuple[Names, Parts]], list[tuple[str, device_array.DeviceMemory]], set[str]]:
    """The arrays of all groups, each as it has to be: in groups, one after the other, and which may share memory.

    These are the ones that are only read, where the rule is made of others: bounds, for example.
    """
    reads = only_read(rule)
    described = [(names, _described(rule, reads, names, group)) for names, group in groups]
    _alike(described)
    there = [
        (name, x, k in reads)
        for names, parts in described
        for k, (name, x) in enumerate(zip(names, parts, strict=True))
        if x is not None
    ]
    shared = {name for name, _, read in there if read} if rule.inputs or rule.mask else set()
    return described, [(name, x) for name, x, _ in there], shared


def _described(rule: Rule, reads: frozenset[int], names: Names, group: Group) -> Parts:
    """The arrays of one group, each as it has to be: params, grads, states, inputs, mask, and the master copy."""
    params = device_array.describe(names[0], group[0], write=True, dtypes=(*EXACT, *HALF))
    parts: list[Any] = [params]
    exact = "float32" if params.dtype in HALF else params.dtype
    mask = len(group) - 2 if rule.mask else None
    for k, (name, x) in enumerate(zip(names[1:], group[1:], strict=True), 1):
        if x is None:
            parts.append(None)
            continue
        wanted = params.dtype if k == 1 else exact
        part = device_array.describe(name, x, write=k not in reads, dtypes=None if k == mask else (*EXACT, *HALF))
        if k == mask and part.dtype not in MASKS:
            places = ", since nobody can look at places without waiting for the device" if "int" in part.dtype else ""
            raise TypeError(
                f"{name} has dtype {part.dtype}; bool or uint8 and the shape of {names[0]} are needed on a CUDA "
                f"device{places}"
            )
        if k != mask and part.dtype != wanted:
            beside = "" if wanted == params.dtype else f" beside {params.dtype} parameters"
            raise TypeError(f"{name} has dtype {part.dtype} and {names[0]} {params.dtype}; {wanted} is needed{beside}")
        if part.shape != params.shape:
            raise ValueError(
                f"{name} has shape {part.shape} and {names[0]} {params.shape}; one shape is needed for all: "
                f"reshape or slice {name}"
            )
        parts.append(part)
    if parts[-1] is not None and params.dtype not in HALF:
        raise ValueError(f"{names[-1]} is for parameters of half precision, and these are {params.dtype}: leave it out")
    return tuple(parts)


def _alike(described: list[tuple[Names, Parts]]) -> None:
    """Raise unless all groups are of one dtype, with or without a master copy."""
    names, first = described[0]
    for own, parts in described[1:]:
        if parts[0].dtype != first[0].dtype:
            raise TypeError(
                f"{own[0]} has dtype {parts[0].dtype} and {names[0]} {first[0].dtype}; one dtype is needed for all"
            )


def head(parts: Parts, width: int) -> int:
    """Elements before the first that lies at a multiple of 16 bytes in all arrays; all of them if there is none.

    The bytes of a mask move `width` at a time.
    """
    there = [x for x in parts if x is not None]
    for first in range(width):
        if all((x.pointer + first * x.itemsize) % min(16, width * x.itemsize) == 0 for x in there):
            return int(min(first, there[0].size))
    return int(there[0].size)


def described_for_kernel(filled: list[Parts], lists: bool) -> tuple[np.ndarray | None, tuple[Any, ...], int]:
    """The table of a list, or None; the kernel's arguments behind its address; the blocks that would do one group."""
    first = filled[0]
    width = elementwise.wide_width(first[0].dtype)
    if lists:
        rows = _table(filled, width)
        return rows, (np.int64(len(rows)), *(0 for _ in range(len(first) - 1))), len(rows)
    addresses = [0 if x is None else x.pointer for x in first]
    arguments = (*addresses, np.int64(first[0].size), np.int64(head(first, width)))
    return None, arguments, -(-first[0].size // (width * elementwise.THREADS))


def most_blocks(here: Any, device: int, blocks: int) -> int:
    """So many blocks, or as many as a device should have."""
    return min(blocks, here.multiprocessors(device) * BLOCKS_PER_MULTIPROCESSOR)


def _table(filled: list[Parts], width: int) -> np.ndarray:
    """The rows of `elementwise._lists`: chunks of the arrays."""
    rows = []
    for parts in filled:
        size, start = parts[0].size, head(parts, width)
        first = 0
        while first < size:
            # The first chunk is longer by the head, so that the others begin at a multiple of 16 bytes.
            end = min(size, first + elementwise.CHUNK + (start if first == 0 and start < size else 0))
            before = start if first == 0 else (end - first if start == size else 0)
            addresses = [0 if x is None else x.pointer + first * x.itemsize for x in parts]
            rows.append((end - first, min(before, end - first), *addresses))
            first = end
    return np.array(rows, np.int64)
