"""Steps on device arrays that were met before: what was found out about the arrays, kept with the launch.

It holds as long as they are the same objects at the same addresses.  Memory of Numba's, CuPy's and JAX's arrays cannot
move; of all others the address is looked at again at each step.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import numpy as np

from .. import validation
from . import driver, streams

KEPT = 1 << 13  # steps

Group = tuple[Any, ...]  # params, grads, the states, the master copy or None; of lists all params, then all grads, ...


class Prepared:
    """The launch of a step on some arrays, and what has to be looked at before each start."""

    __slots__ = ("_places", "_written", "launch", "moving", "on_default", "sources", "used")

    def __init__(self, launch: Any, group: Group, count: int) -> None:
        self.launch = launch
        self.used = True  # since the cache was last full
        self.sources = streams.Sources(group)
        tensors = [k for k, x in enumerate(group) if validation.is_tensor(x)]
        self._written = [k for k in tensors if k // count not in launch.only_read]
        self.moving = [k for k, x in enumerate(group) if x is not None and moves(x)]
        self._places = [_place(group[k]) for k in self.moving]
        self.on_default = launch.on(0) if self.sources.default and not self.moving else None

    def moved(self, group: Group) -> bool:
        """Does an array lie elsewhere than when it was looked at?"""
        return [_place(group[k]) for k in self.moving] != self._places

    def step(self, group: Group, hyper: tuple[Any, ...], stream: Any) -> bool:
        """Start the launch; False where an array has moved, or a hyper-parameter is no number."""
        if stream is None and self.on_default is not None:  # nothing to look at: with little memory to walk through
            if not self.used:
                self.used = True
            try:
                status = self.on_default(hyper)
            except TypeError:
                return self._start(group, hyper, stream)
            if status:
                self.launch.failed(status, hyper)
            return True
        if self.moving and self.moved(group):
            return False
        self.used = True
        if not self._start(group, hyper, stream):
            return False
        if self._written:
            validation.tell_torch(*(group[k] for k in self._written))
        return True

    def _start(self, group: Group, hyper: tuple[Any, ...], stream: Any) -> bool:
        try:
            start_in_order(self.launch, self.sources, group, stream, hyper)
        except TypeError:  # hyper-parameters that are no floats
            if not all(isinstance(x, float | int | np.number) for x in hyper):
                return False
            start_in_order(self.launch, self.sources, group, stream, self.launch.check(hyper))
        return True


class Repeat(Prepared):
    """A step on arrays that are still there: when one of them goes, this goes."""

    __slots__ = ("_references",)

    def __init__(self, launch: Any, key: Any, group: Group, count: int) -> None:
        super().__init__(launch, group, count)

        def forget(_: Any, key: Any = key) -> None:  # it refers to the key alone: nothing refers to itself
            known.pop(key, None)

        self._references = [weakref.ref(x, forget) for x in group if x is not None]


known: dict[Any, Repeat] = {}


def start_in_order(launch: Any, sources: streams.Sources, group: Group, stream: Any, hyper: tuple[Any, ...]) -> None:
    """Start a launch after what the arrays' libraries have given their streams, and before what they give them next.

    With a `stream` that was asked for only the first is done, and only for streams that the arrays' interfaces name.
    """
    device = launch.device
    handle = streams.stream_of(stream, group[0], device)
    if sources.alone and (stream is None or not sources.named):
        launch.start(handle, hyper)
        return
    here = driver.current()
    others = sources.others(handle, stream is not None, device)
    for other in others:
        here.order(other, handle, device)
    launch.start(handle, hyper)
    if stream is None:
        for other in others:
            here.order(handle, other, device)
    for x in group:
        if streams.library_of(x) in streams.JAX:  # which may give its memory to another array as soon as this one goes
            here.keep(x, device, handle)


def remember(launch: Any, key: Any, group: Group, count: int) -> None:
    """Keep a launch of so many arrays, each with what belongs to it; without weak references they are looked at again.

    `key` says which objects they are: their addresses as ints, or as `addresses_of` has them; None says nothing.
    """
    if key is None:
        return
    try:
        made = Repeat(launch, key, group, count)
    except TypeError:
        return
    while len(known) >= KEPT:
        oldest = next(iter(known))
        old = known.pop(oldest, None)
        if old is not None and old.used:  # a second chance
            old.used = False
            known[oldest] = old
    known[key] = made


def flattened(lists: Group) -> Group:
    """The arrays of lists, one list after the other; nothing where the lists differ in length."""
    count = len(lists[0])
    columns = [x for x in lists if x is not None]
    if any(x.__class__ not in (list, tuple) or len(x) != count for x in columns):
        return ()
    return tuple(itertools.chain.from_iterable(columns))


def addresses_of(objects: Group) -> bytes:
    """The addresses of many objects: `id` of each, in a fifth of the time."""
    return np.fromiter(objects, object, len(objects)).tobytes()


def moves(array: Any) -> bool:
    """Can the memory of an array change while it stays the same object?"""
    return validation.is_tensor(array) or streams.library_of(array) not in ("numba", "cupy", *streams.JAX)


def _place(array: Any) -> Any:
    if validation.is_tensor(array):
        return array.data_ptr(), array.numel(), array.dtype, array.is_contiguous()
    interface = array.__cuda_array_interface__
    return tuple(interface.get(name) for name in ("data", "shape", "strides", "typestr", "stream"))
