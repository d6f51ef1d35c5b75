"""A network on device arrays: the checks, and the launches.  Work goes to the current stream of `params`' library."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any, NamedTuple

import numpy as np

from ... import validation
from ...gpu import device_array, driver, streams
from ...gpu.device_array import DeviceMemory
from .. import arguments
from ..losses import LOSSES
from ..spec import NetworkSpec, of_targets, terms
from . import gemm, losses, tf32
from .ordering import in_order
from .passes import Network, Source, Space, Starter
from .training_data import address_of

KEPT = 4  # sizes of spare vectors
SPARE = 2  # of one size
_spare: weakref.WeakKeyDictionary[Any, dict[Any, list[Any]]] = weakref.WeakKeyDictionary()


def forward(spec: NetworkSpec, params: Any, X: Any) -> Any:
    """The outputs of the last layer, a new device array of shape (rows, outputs)."""
    call = _checked(spec, params, X)
    with call.in_order():
        return _forward(call)


def predict_proba(spec: NetworkSpec, params: Any, X: Any) -> Any:
    """The same, turned into probabilities."""
    call = _checked(spec, params, X)
    with call.in_order():
        z = _forward(call)
        kernel = losses.probabilities_kernel(spec.dtype_name, LOSSES[spec.loss].labels)
        call.by_row(kernel, address_of(z), *map(np.int64, z.shape))
    return z


def predict(spec: NetworkSpec, params: Any, X: Any) -> Any:
    """The same, turned into classes: int64."""
    call = _checked(spec, params, X)
    labels = LOSSES[spec.loss].labels
    out = call.empty(call.rows if labels else (call.rows, spec.sizes[-1]), np.int64)
    with call.in_order():
        z = _forward(call)
        kernel = losses.classes_kernel(spec.dtype_name, labels)
        call.by_row(kernel, address_of(z), address_of(out), *map(np.int64, z.shape))
    return out


def loss(spec: NetworkSpec, params: Any, X: Any, y: Any) -> float:
    """The mean loss with the penalty."""
    call = _checked(spec, params, X, y=y)
    with call.in_order(), _Work(call) as work:
        return work.value(None)


def value_and_grad(
    spec: NetworkSpec, params: Any, X: Any, y: Any, out: Any, dropout_seed: np.uint64 | None
) -> tuple[float, Any]:
    """The loss, and its gradient in `out`."""
    call = _checked(spec, params, X, y=y, out=out)
    grads = call.empty(spec.size, spec.dtype) if out is None else out
    with call.in_order(), _Work(call) as work:
        value = work.value(dropout_seed)  # the host knows now that all targets are allowed
        work.gradient(address_of(grads) if out is None else call.out, dropout_seed)
    validation.tell_torch(grads)
    return value, grads


class _Call(NamedTuple):
    """The checked inputs of one call."""

    spec: NetworkSpec
    device: int
    stream: int
    arrays: list[Any]
    params: int
    X: int
    rows: int
    y: DeviceMemory | None
    out: int

    def in_order(self) -> contextlib.AbstractContextManager[None]:
        """In this block the stream is in the order of those of the arrays."""
        return in_order(self.arrays, self.stream, self.device)

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Any:
        """A new array, which belongs to the stream: whoever reads it on another waits for this one."""
        return driver.current().empty(shape, dtype, self.device, stream=self.stream)

    def by_row(self, kernel: Any, *arguments: Any) -> None:
        """Launch a kernel that has a thread for each row."""
        here = driver.current()
        grid = here.configuration(-(-self.rows // losses.THREADS), losses.THREADS)
        here.launch(here.load(kernel, self.device), self.device, self.stream, grid, *arguments)


def _checked(spec: NetworkSpec, params: Any, X: Any, y: Any = None, out: Any = None) -> _Call:
    vector = device_array.describe("params", params, write=False)
    arguments.vector(spec, "params", np.dtype(vector.dtype), vector.shape)
    arguments.input_shape(spec, device_array.describe("X", X, write=False, dtypes=None).shape)
    inputs = device_array.describe("X", X, write=False)
    _same_dtype(spec, "X", inputs)
    named = [("params", vector), ("X", inputs)]
    targets = written = None
    if y is not None:
        targets = device_array.describe("y", y, write=False, dtypes=None)
        kind = _kind_of("y", targets)
        arguments.target_kind(spec, kind, targets.shape, inputs.shape[0])
        if kind.kind == "f":
            _same_dtype(spec, "y", targets)
        spec = of_targets(spec, len(targets.shape))
        named.append(("y", targets))
    if out is not None:
        written = device_array.describe("out", out, write=True)
        arguments.vector(spec, "out", np.dtype(written.dtype), written.shape)
        for name, x in named:
            if written.pointer < x.end and x.pointer < written.end:
                raise ValueError(
                    f"out and {name} overlap in device memory; out needs its own: leave it out for a new array"
                )
        named.append(("out", written))
    device = device_array.one_device(named)
    gemm.check(spec.sizes)
    tf32.check(spec.precision, device)
    return _Call(
        spec=spec,
        device=device,
        stream=streams.stream_of(None, params, device),
        arrays=[x for x in (params, X, y, out) if x is not None],
        params=vector.pointer,
        X=inputs.pointer,
        rows=inputs.shape[0],
        y=targets,
        out=0 if written is None else written.pointer,
    )


def _kind_of(name: str, x: DeviceMemory) -> np.dtype:
    try:
        return np.dtype(x.dtype)
    except TypeError as error:
        raise TypeError(f"{name} has dtype {x.dtype}; integers, float32 or float64 are needed") from error


def _same_dtype(spec: NetworkSpec, name: str, x: DeviceMemory) -> None:
    if x.dtype != spec.dtype_name:
        raise TypeError(
            f"{name} has dtype {x.dtype} and the model {spec.dtype}; on a CUDA device nothing is converted: "
            f"{name}.astype({spec.dtype_name!r})"
        )


def _forward(call: _Call) -> Any:
    z = call.empty((call.rows, call.spec.sizes[-1]), call.spec.dtype)
    with _Work(call, targets=False) as work:
        work.network.forward(Starter(call.device, call.stream), Source(call.X), call.rows, address_of(z), None)
    return z


class _Work:
    """The memory of one call: vectors of finished calls on the same stream, whose kernels run before these."""

    def __init__(self, call: _Call, targets: bool = True) -> None:
        spec = call.spec
        here = driver.current()
        space = Space(spec, call.rows, here.multiprocessors(call.device))
        self.call, self._kept = call, _spare.setdefault(here, {})
        self._key = call.device, call.stream, spec.dtype_name, spec.sizes, spec.loss, call.rows, targets
        try:
            self.vectors = self._kept[self._key].pop()
        except (KeyError, IndexError):
            self.vectors = self._new(space, targets)
        self.network = Network(spec, call.device, call.params, space, address_of(self.vectors[0]))

    def _new(self, space: Space, targets: bool) -> tuple[Any, ...]:
        """The space; and the results (losses, bad rows, the squares of the weights), targets, order, ranges."""
        call, spec = self.call, self.call.spec
        vectors = [call.empty(space.size, spec.dtype)]
        if targets:
            labels = LOSSES[spec.loss].labels
            width = 1 if labels else spec.sizes[-1]
            network = Network(spec, call.device, call.params, space, 0)
            vectors += [
                call.empty(2 * call.rows + 1, np.float64),
                call.empty(call.rows * width, np.int64 if labels else spec.dtype),
                call.empty(call.rows, np.int64),
                driver.current().upload(network.ranges(), call.device, stream=call.stream),
            ]
        return tuple(vectors)

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, *_: Any) -> None:
        spare = self._kept.setdefault(self._key, [])
        if len(spare) < SPARE:
            spare.append(self.vectors)
        while len(self._kept) > KEPT:  # many batch sizes must not fill the device
            self._kept.pop(next(iter(self._kept)))

    def value(self, seed: np.uint64 | None) -> float:
        """The passes up to the loss, which comes to the host; raises for targets that are not allowed."""
        call, network, rows = self.call, self.network, self.call.rows
        spec, start = call.spec, Starter(call.device, call.stream)
        results, targets, order, ranges = map(address_of, self.vectors[1:])
        assert call.y is not None
        kind = _target_kind(spec, call.y)
        given = losses.targets_kernel(spec.dtype_name, call.y.dtype, kind)
        sizes = np.int64(rows), np.int64(spec.sizes[-1])
        call.by_row(given, call.y.pointer, targets, order, results + 8 * rows, *sizes)
        network.forward(start, Source(call.X), rows, network.at(network.space.z), seed)
        count = rows * terms(spec)
        network.losses(start, rows, targets, order, spec.dtype.type(1.0 / count), results)
        if spec.l2 != 0:
            network.squares(start, ranges, results + 16 * rows)
        found = driver.current().download(self.vectors[1], call.stream)
        if found[rows : 2 * rows].any():
            host = driver.current().download(call.y.owner, call.stream)
            arguments.refuse_targets(spec, host, kind == losses.ONE_HOT)
        value = float(np.add.accumulate(np.concatenate(([0.0], found[:rows])))[-1]) / count
        if spec.l2 != 0:
            value += 0.5 * spec.l2 * float(found[2 * rows])
        return value

    def gradient(self, out: int, seed: np.uint64 | None) -> None:
        """The passes back, after `value`."""
        call, network = self.call, self.network
        start = Starter(call.device, call.stream)
        network.backward(start, call.rows, seed)
        decay = call.spec.dtype.type(call.spec.l2)
        network.gradients(start, Source(call.X), call.rows, out, decay, more=False)


def _target_kind(spec: NetworkSpec, y: DeviceMemory) -> int:
    if LOSSES[spec.loss].coupled:
        return losses.LABELS if LOSSES[spec.loss].labels else losses.PROBABILITIES
    if arguments.implies_one_hot(spec, np.dtype(y.dtype), y.shape):
        return losses.ONE_HOT
    return losses.BINARY if LOSSES[spec.loss].binary else losses.REAL
