"""Update rules on device arrays: the checks, and the launch.

What was found out about arrays holds as long as they are the same objects at the same addresses: it is kept, with the
launch that follows from it, so that a step on arrays that were met before only compares and launches.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from typing import Any

import numpy as np

from .. import validation
from ..kernels.rule import Rule
from . import device_array, driver, elementwise, streams
from .device_array import EXACT, HALF

BLOCKS_PER_MULTIPROCESSOR = 8
KEPT = 256  # launches

Group = tuple[Any, ...]  # params, grads, the states, and the master copy or None
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
        described = [(names, _described(names, group)) for names, group in groups]
        self.rule, self.options = rule, options
        first = described[0][1]
        _alike(described)
        together = [(n, x) for names, parts in described for n, x in zip(names, parts, strict=True) if x is not None]
        device_array.no_overlap(together)
        self.exact = np.dtype("float64" if first[0].dtype == "float64" else "float32")
        self.hyper: Any = None
        self.constants: tuple[Any, ...] = ()
        self.check(hyper)
        filled = [parts for _, parts in described if parts[0].size > 0]
        self.ready = False
        if not filled:
            return
        self.driver = here = driver.current()
        self.device = device_array.one_device(together)
        kernel = elementwise.kernel(rule, options, first[0].dtype, first[-1] is not None, lists)
        self.loaded = here.load(kernel, self.device)
        width = elementwise.wide_width(first[0].dtype)
        if lists:
            self.table = here.upload(_table(filled, width), self.device)
            blocks = self.table.shape[0]
            address = self.table.__cuda_array_interface__["data"][0]
            self.arguments: tuple[Any, ...] = (address, np.int64(blocks), *(0 for _ in range(len(first) - 1)))
        else:
            blocks = -(-first[0].size // (width * elementwise.THREADS))
            addresses = [0 if x is None else x.pointer for x in first]
            self.arguments = (*addresses, np.int64(first[0].size), np.int64(head(first, width)))
        most = here.multiprocessors(self.device) * BLOCKS_PER_MULTIPROCESSOR
        self.configuration = here.configuration(min(blocks, most), elementwise.THREADS)
        self.ready = True

    def check(self, hyper: tuple[Any, ...]) -> None:
        """Turn hyper-parameters into the kernel's constants; raises for values out of range."""
        if hyper != self.hyper:
            named = dict(zip(self.rule.hyper, hyper, strict=True))
            values = validation.hyper_parameters(named, self.exact, self.rule.range_of)
            self.constants = self.rule.scalars(values, self.exact, self.options)
            self.hyper = hyper

    def run(self, stream: Any) -> None:
        self.driver.launch(self.loaded, self.device, stream, self.configuration, *self.arguments, *self.constants)


class _Known:
    """A launch on arrays that are still there: when one of them goes, this goes."""

    def __init__(self, launch: Launch, kind: Any, group: Group, each: int) -> None:
        self.launch, self.kind = launch, kind
        self.key = tuple(map(id, group))
        self._references = [weakref.ref(x, self._forget) for x in group if x is not None]
        torch = sys.modules.get("torch")
        self.tensors = torch is not None and isinstance(group[0], torch.Tensor)
        self.each = each
        self._places = _places(group) if self.tensors else None
        self.stream = None if streams.moves(group[0]) else streams.stream_of(None, group[0], launch.device)

    def _forget(self, _: Any) -> None:
        _known.pop(self.key, None)

    def moved(self, group: Group) -> bool:
        """Do tensors lie elsewhere now?  (Other libraries' arrays stay where they are.)"""
        return _places(group) != self._places


def _places(tensors: Group) -> list[Any]:
    return [None if x is None else (x.data_ptr(), x.numel(), x.is_contiguous()) for x in tensors]


_known: dict[tuple[int, ...], _Known] = {}


def repeat(group: Group, kind: Any, hyper: tuple[Any, ...], stream: Any) -> bool:
    """Step arrays (or lists of them) that were met before, with equal options; False where they were not."""
    if group[0].__class__ in (list, tuple):
        group = _flattened(group)
    known = _known.get(tuple(map(id, group)))
    if known is None or known.kind != kind or (known.tensors and known.moved(group)):
        return False
    launch = known.launch
    if hyper != launch.hyper:
        launch.check(hyper)
    if stream is not None or known.stream is None:
        stream = streams.stream_of(stream, group[0], launch.device)
    else:
        stream = known.stream
    launch.run(stream)
    if known.tensors:
        validation.tell_torch(*(x for k, x in enumerate(group) if k % known.each != 1))
    return True


def _flattened(lists: Group) -> Group:
    """The arrays of lists, place by place."""
    count = len(lists[0])
    columns = [[None] * count if x is None else x for x in lists]
    if any(x.__class__ not in (list, tuple) or len(x) != count for x in columns):
        return ()
    return tuple(itertools.chain.from_iterable(zip(*columns, strict=True)))


def apply(
    rule: Rule,
    options: tuple[Any, ...],
    groups: list[tuple[Names, Group]],
    hyper: tuple[Any, ...],
    stream: Any,
    kind: Any,
    lists: bool = False,
) -> None:
    """Check the arrays of a step, or of several in one launch, then launch the rule's kernel on them."""
    launch = Launch(rule, options, groups, hyper, lists)
    everything = tuple(x for _, group in groups for x in group)
    if launch.ready:
        launch.run(streams.stream_of(stream, everything[0], launch.device))
    for _, (params, _, *written) in groups:
        validation.tell_torch(params, *written)
    if launch.ready:
        try:
            known = _Known(launch, kind, everything, len(groups[0][1]))
        except TypeError:  # no weak references: such arrays are looked at each time
            return
        while len(_known) >= KEPT:
            _known.pop(next(iter(_known)), None)
        _known[known.key] = known


def _described(names: Names, group: Group) -> Parts:
    """The arrays of one group, each as it has to be."""
    params = device_array.describe(names[0], group[0], write=True, dtypes=(*EXACT, *HALF))
    parts: list[Any] = [params]
    exact = "float32" if params.dtype in HALF else params.dtype
    for name, x in zip(names[1:], group[1:], strict=True):
        if x is None:
            parts.append(None)
            continue
        wanted = params.dtype if len(parts) == 1 else exact
        part = device_array.describe(name, x, write=len(parts) > 1, dtypes=(*EXACT, *HALF))
        if part.dtype != wanted:
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
    """Elements before the first that lies at a multiple of 16 bytes in all arrays; all of them if there is none."""
    there = [x for x in parts if x is not None]
    for first in range(width):
        if all((x.pointer + first * x.itemsize) % 16 == 0 for x in there):
            return int(min(first, there[0].size))
    return int(there[0].size)


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
