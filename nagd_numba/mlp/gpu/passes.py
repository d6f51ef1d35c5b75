"""The launches of a network's passes, for batches of so many rows: products, losses, penalties, updates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...gpu import driver
from ...gpu.compiler import Kernel
from ...kernels.jit import plain
from ...kernels.rule import Rule
from ..dropout import layer_key, layer_keys
from ..layout import layers
from ..spec import NetworkSpec
from . import gemm, losses, reductions, split
from .gemm import DELTA, GRADIENT, HIDDEN, OUTPUT, UPDATE, Kind

RuleOptions = tuple[Rule, tuple[Any, ...]]


class Space:
    """What lies between the passes, in one vector of the network's dtype: the place of each part, in elements.

    `room` is what products in parts may take (`split.py`), on a device with so many multiprocessors.
    """

    def __init__(self, spec: NetworkSpec, rows: int, multiprocessors: int, grads: bool = False) -> None:
        hidden, out = spec.sizes[1:-1], spec.sizes[-1]
        self.room = 0
        for m, n in itertools.pairwise(spec.sizes):
            for shape in ((rows, n, m), (rows, m, n), (m + 1, n, rows)):
                self.room = max(self.room, split.division(shape, multiprocessors).room(*shape[:2]))
        widths = [*hidden, *hidden, out, out, 3, spec.size if grads else 0, self.room]
        heights = [rows] * (len(widths) - 2) + [1, 1]
        sizes = [-(-width * height // 4) * 4 for width, height in zip(widths, heights, strict=True)]
        places = np.cumsum([0, *sizes]).tolist()
        count = len(hidden)
        self.hidden, self.deltas = places[:count], places[count : 2 * count + 1]  # the last delta is of the outputs
        self.z, self.scratch, self.grads, self.partial, self.clip_factor = places[2 * count + 1 : 2 * count + 6]
        self.size = self.clip_factor + 4


Start = Callable[..., None]  # of a kernel, its blocks, the threads of each, and the arguments


class Starter:
    """Starts kernels at once, on a stream; what depends on nothing but the kernel and its grid is kept."""

    def __init__(self, device: int, stream: Any) -> None:
        self._device, self._stream = device, stream
        self._driver = driver.current()
        self._ready: dict[Any, tuple[Any, Any]] = {}

    def __call__(self, kernel: Kernel, blocks: int | tuple[int, int], threads: int, *arguments: Any) -> None:
        key = kernel, blocks
        if key not in self._ready:
            loaded = self._driver.load(kernel, self._device)
            self._ready[key] = loaded, self._driver.configuration(blocks, threads)
        loaded, configuration = self._ready[key]
        self._driver.launch(loaded, self._device, self._stream, configuration, *arguments)


class Source(NamedTuple):
    """The rows of a batch: in order from `address`, or those that `order` names of data of another dtype."""

    address: int
    dtype: str | None = None
    order: Any = 0
    scale: float = 1.0


class Network:
    """A network at some address on a device, and the space for its passes.

    Each pass takes what starts its kernels: a `Starter`, or the recorder of many steps at once (`step_records.py`), for
    which addresses, keys and scalars may be arrays with an element for each step.
    """

    def __init__(self, spec: NetworkSpec, device: int, params: int, space: Space, address: int) -> None:
        self.spec, self.device, self.params = spec, device, params
        self.space, self.address = space, address
        self.scalar = spec.dtype.type
        self.layers = list(layers(spec.sizes))
        self._multiprocessors = driver.current().multiprocessors(device)

    def at(self, place: int) -> int:
        """The address of a place in the space."""
        return self.address + place * self.spec.dtype.itemsize

    def weights(self, layer: int, base: int | None = None) -> int:
        """The address of the weights of a layer (or of what lies at their place in another vector)."""
        start = self.params if base is None else base
        return start + self.layers[layer].weights * self.spec.dtype.itemsize

    def product(
        self, start: Start, purpose: str, kind: Kind, a: Source, b: int, shape: tuple[int, int, int], *to: Any
    ) -> None:
        """Launch a product of (rows, columns, inner)."""
        found = split.division(shape, self._multiprocessors, self.space.room)
        operands = a.address, a.order, self.scalar(a.scale), b, *map(np.int64, shape)
        if found.parts == 1:
            kernel = gemm.kernel(purpose, kind, found.tile)
            start(kernel, found.grid, kernel.threads, *operands, *to)
            return
        kernel = gemm.part_kernel(*split.without_epilogue(purpose, kind), found.tile)
        partial = self.at(self.space.partial)
        start(kernel, (*found.grid, found.parts), kernel.threads, *operands, partial)
        rows, columns, _ = shape
        kernel, blocks = split.sum_kernel(purpose, kind), -(-rows * columns // split.THREADS)
        start(kernel, blocks, split.THREADS, partial, *map(np.int64, (found.parts, rows, columns)), *to)

    def forward(self, start: Start, x: Source, rows: int, z: int, key: Any) -> None:
        """The activations, and the outputs at the address `z`; with a key, units are dropped."""
        spec, below = self.spec, x
        for index, layer in enumerate(self.layers):
            shape = rows, layer.outputs, layer.inputs
            weights, biases = self.weights(index), self.params + layer.biases * spec.dtype.itemsize
            if index == len(self.layers) - 1:
                self.product(start, OUTPUT, self._kind(below.dtype), below, weights, shape, biases, z)
                return
            kind = self._kind(below.dtype, spec.activation, key is not None)
            here = self.at(self.space.hidden[index])
            drop, threshold, scale, _ = self._dropout(key, index)
            self.product(start, HIDDEN, kind, below, weights, shape, biases, here, drop, threshold, scale)
            below = Source(here)

    def backward(self, start: Start, rows: int, key: Any) -> None:
        """The deltas of the hidden layers, from those of the outputs."""
        kind = self._kind(None, self.spec.activation, key is not None)
        for index in range(len(self.layers) - 1, 0, -1):
            layer = self.layers[index]
            above, here = Source(self.at(self.space.deltas[index])), self.at(self.space.deltas[index - 1])
            shape = rows, layer.inputs, layer.outputs
            to = self.at(self.space.hidden[index - 1]), here, *self._dropout(key, index - 1)
            self.product(start, DELTA, kind, above, self.weights(index), shape, *to)

    def gradients(self, start: Start, x: Source, rows: int, out: int, decay: Any, more: Any) -> None:
        """The gradient of every layer with the penalty's, to the address `out`; with `more` added to what is there."""
        for index, below, shape in self._weight_products(x, rows):
            kind = self._kind(below.dtype)
            to = self.weights(index), self.weights(index, out), decay, np.int64(more)
            self.product(start, GRADIENT, kind, below, self.at(self.space.deltas[index]), shape, *to)

    def updates(
        self, start: Start, x: Source, rows: int, vel: int, decay: Any, rule: RuleOptions, constants: Sequence[Any]
    ) -> None:
        """The same gradients, each given to the rule at once; its states are at the address `vel`."""
        for index, below, shape in self._weight_products(x, rows):
            kind = self._kind(below.dtype)._replace(rule=rule[0], options=rule[1])
            to = self.weights(index), self.weights(index, vel), np.int64(self.spec.size), decay, *constants
            self.product(start, UPDATE, kind, below, self.at(self.space.deltas[index]), shape, *to)

    def _weight_products(self, x: Source, rows: int) -> Iterator[tuple[int, Source, tuple[int, int, int]]]:
        """For every layer what is below it, and the shape of the product that is its gradient."""
        for index, layer in enumerate(self.layers):
            below = x if index == 0 else Source(self.at(self.space.hidden[index - 1]))
            yield index, below, (layer.inputs + 1, layer.outputs, rows)

    def losses(
        self, start: Start, rows: int, y: int, order: Any, factor: Any, out: Any, measures: Any = None, weights: int = 0
    ) -> None:
        """Losses of the rows, to the address `out`, and their derivatives, from the outputs in the space."""
        spec, space = self.spec, self.space
        kernel = losses.losses_kernel(spec.dtype_name, spec.loss, measures is not None, weights != 0)
        places = map(np.int64, (space.z, space.deltas[-1], space.scratch))
        start(
            *(kernel, -(-rows // losses.ROWS), losses.THREADS),
            *(self.address, *places, y, weights, order),
            *(np.int64(rows), np.int64(spec.sizes[-1]), factor, out, 0 if measures is None else measures),
        )

    def squares(self, start: Start, ranges: int, out: Any) -> None:
        """The sum of the squared weights; `ranges` has first and last of each layer's."""
        kernel = reductions.squares_kernel(self.spec.dtype_name, False)
        count = np.int64(len(self.layers))
        start(kernel, 1, reductions.THREADS, self.params, ranges, count, out, np.float64(0))

    def apply(
        self, start: Start, rule: RuleOptions, vel: int, whole: int, clip: float, constants: Sequence[Any]
    ) -> None:
        """Give the gradient in the space to the rule; `whole` is the address of its range, from 0 to its size."""
        spec, grads, clip_factor = self.spec, self.at(self.space.grads), self.at(self.space.clip_factor)
        clipped = clip < np.inf
        if clipped:
            kernel = reductions.squares_kernel(spec.dtype_name, True)
            start(kernel, 1, reductions.THREADS, grads, whole, np.int64(1), clip_factor, np.float64(clip))
        kernel, threads = reductions.apply_kernel(spec.dtype_name, *rule, clipped), reductions.THREADS
        blocks = min(8 * self._multiprocessors, -(-spec.size // threads))
        arguments = self.params, grads, vel, clip_factor, np.int64(spec.size), *constants
        start(kernel, blocks, threads, *arguments)

    def ranges(self) -> np.ndarray:
        """First and last of each layer's weights, then of everything: for `squares` and `apply`."""
        pairs = [(layer.weights, layer.biases) for layer in self.layers]
        return np.array([*pairs, (0, self.spec.size)], np.int64).ravel()

    def _kind(self, source: str | None, activation: str = "identity", dropout: bool = False) -> Kind:
        return Kind(self.spec.dtype_name, activation, dropout, source, tf32=self.spec.precision == "tf32")

    def _dropout(self, key: Any, layer: int) -> tuple[Any, Any, Any, Any]:
        """The key of a hidden layer, the threshold, the scale and its inverse."""
        if key is None:
            return np.uint64(0), np.uint64(0), self.scalar(1), self.scalar(1)
        keep = 1.0 - self.spec.dropout
        own = layer_keys(key, layer) if isinstance(key, np.ndarray) else np.uint64(plain(layer_key)(key, layer))
        return own, self.spec.threshold, self.scalar(1.0 / keep), self.scalar(keep)
