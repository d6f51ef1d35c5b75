"""Copies of device arrays, and two arrays that exchange their values: what an average of parameters needs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types

from .. import validation
from ..kernels.template import template
from . import device_array, driver, repeats, streams
from .compiler import Kernel
from .pointers import load, store

THREADS = 256
BLOCKS_PER_MULTIPROCESSOR = 8
_words = types.CPointer(types.int32)


@functools.cache
def kernel() -> Kernel:
    """See `exchange`."""
    return Kernel(exchange.bind(), "exchange", (_words, _words, types.int64))


@template
def exchange():
    from .target import cuda

    def exchange(a, b, size):
        """Arrays of `size` words of 32 bits exchange their values."""
        k, threads = np.int64(cuda.grid(1)), np.int64(cuda.gridsize(1))
        while k < size:
            kept = load(a, k)
            store(a, k, load(b, k))
            store(b, k, kept)
            k += threads

    return exchange


class Exchange:
    """The launches that exchange the values of pairs of arrays."""

    def __init__(self, pairs: Sequence[tuple[device_array.DeviceMemory, device_array.DeviceMemory]], device: int):
        self.device, self._pairs = device, pairs
        self._loaded = driver.current().load(kernel(), device)

    def start(self, stream: int, hyper: tuple[Any, ...] = ()) -> None:
        """Start them."""
        here = driver.current()
        most = here.multiprocessors(self.device) * BLOCKS_PER_MULTIPROCESSOR
        for a, b in self._pairs:
            words = a.size * a.itemsize // 4
            grid = here.configuration(min(most, -(-words // THREADS)), THREADS)
            here.launch(self._loaded, self.device, stream, grid, a.pointer, b.pointer, np.int64(words))


def exchanged(named: Sequence[tuple[str, Any, Any]]) -> None:
    """Exchange the values of two arrays of each name, the second of which has it in messages; after every check."""
    pairs, together = [], []
    for name, mine, other in named:
        own, given = device_array.describe("the average", mine, True), device_array.describe(name, other, True)
        if (own.dtype, own.shape) != (given.dtype, given.shape):
            raise ValueError(
                f"{name} has dtype {given.dtype} and shape {given.shape}, and the average {own.dtype} and {own.shape}; "
                f"they must be alike"
            )
        together += [("the average", own), (name, given)]
        if own.size:
            pairs.append((own, given))
    device_array.no_overlap(together)
    if pairs:
        everything = tuple(x for _, mine, other in named for x in (other, mine))
        made = Exchange(pairs, device_array.one_device(together))
        repeats.start_in_order(made, streams.Sources(everything), everything, None, ())
    validation.tell_torch(*(x for _, *pair in named for x in pair))


def copied(name: str, x: Any) -> Any:
    """A copy of a device array: of PyTorch's and CuPy's of their own kind, else an array of Numba's."""
    memory = device_array.describe(name, x, False)
    if validation.is_tensor(x):
        return x.detach().clone()
    if streams.library_of(x) == "cupy":
        return x.copy()
    here = driver.current()
    device = device_array.one_device([(name, memory)])
    stream = streams.current_handle(x, device)
    made = here.empty(memory.shape, np.dtype(memory.dtype), device, stream)
    if memory.size:
        to = int(made.__cuda_array_interface__["data"][0])
        with here.inside(device):
            here.copy(to, memory.pointer, memory.size * memory.itemsize, stream)
        here.keep(x, device, stream)
    return made
