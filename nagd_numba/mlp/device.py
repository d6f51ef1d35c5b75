"""Runs the CUDA kernels of a network: checks, buffers, launches.  Everything goes to the default stream."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import arrays
from ..compile import SIMULATOR, plain
from ..launch import DeviceMemory, describe, flat_vector, one_device, require_cuda
from . import checks
from .cells import drop_threshold, layer_key
from .cuda import THREADS, TILE, kernels
from .layout import layers

SIZES_KEPT = 4
_spare: dict[tuple[int, Any, int], list[Any]] = {}


class _Call(NamedTuple):
    """The checked inputs of one call, as flat device vectors."""

    cuda: Any
    device: int
    params: Any
    X: Any
    rows: int


def forward(model: Any, params: Any, X: Any) -> Any:
    """The outputs of the last layer, a new device array of shape (rows, outputs)."""
    call = _checked(model, params, X)
    with call.cuda.gpus[call.device]:
        return _forward(model, call)


def predict_proba(model: Any, params: Any, X: Any) -> Any:
    """The same, turned into probabilities."""
    call = _checked(model, params, X)
    with call.cuda.gpus[call.device]:
        z = _forward(model, call)
        _by_row(_table(model)["probabilities"], call.rows, z.reshape(z.size), call.rows, model.sizes[-1])
        return z


def predict(model: Any, params: Any, X: Any) -> Any:
    """The same, turned into classes: int64."""
    call = _checked(model, params, X)
    with call.cuda.gpus[call.device]:
        z = _forward(model, call)
        shape = call.rows if model.loss_name == "cross_entropy" else z.shape
        out = call.cuda.device_array(shape, np.int64)
        _by_row(_table(model)["classes"], call.rows, z.reshape(z.size), out.reshape(out.size), *z.shape)
        return out


def loss(model: Any, params: Any, X: Any, y: Any) -> float:
    """The mean loss with the penalty."""
    call = _checked(model, params, X)
    targets, one_hot, device = _targets(model, y, call.rows)
    _same_device(call, ("y", device))
    with call.cuda.gpus[call.device]:
        buffers = _Buffers(model, call)
        value = _forward_and_loss(model, call, buffers, y, targets, one_hot, None)
        buffers.give_back()
        return value


def value_and_grad(
    model: Any, params: Any, X: Any, y: Any, out: Any, dropout_seed: np.uint64 | None
) -> tuple[float, Any]:
    """The loss, and its gradient in `out`."""
    call = _checked(model, params, X)
    targets, one_hot, device = _targets(model, y, call.rows)
    _same_device(call, ("y", device))
    grads = None
    if out is not None:
        memory = describe("out", out, write=True)
        checks.vector(model, "out", memory.dtype, memory.shape)
        for name, x in (("params", params), ("X", X), ("y", y)):
            _check_apart(memory, name, describe(name, x, write=False, dtypes=None))
        _same_device(call, ("out", one_device([("out", memory)])))
        grads = flat_vector(memory)
    with call.cuda.gpus[call.device]:
        buffers = _Buffers(model, call)
        value = _forward_and_loss(model, call, buffers, y, targets, one_hot, dropout_seed)
        if out is None:
            out = grads = call.cuda.device_array(model.size, model.dtype)
        _backward(model, call, buffers, grads, dropout_seed)
        buffers.give_back()
    arrays.tell_torch(out)
    return value, out


class _Buffers:
    """One device vector for all that lies between the passes, and the offsets of its parts.

    Vectors of finished calls are used again: kernels on one stream run in order.
    """

    def __init__(self, model: Any, call: _Call) -> None:
        rows, hidden = call.rows, model.sizes[1:-1]
        self.hidden = [rows * sum(hidden[:layer]) for layer in range(len(hidden))]
        self.z = rows * sum(hidden)
        self.deltas = [self.z + rows * model.sizes[-1]]
        self.deltas.append(self.deltas[0] + rows * max(model.sizes[1:]))
        self.losses = self.deltas[1] + rows * max(model.sizes[1:])
        self.bad = self.losses + rows
        self.results = self.bad + rows  # loss, number of bad rows, squared weights of each layer
        self.end = self.results + 2 + len(model.sizes) - 1
        self._key = (call.device, model.dtype, self.end)
        spare = _spare.setdefault(self._key, [])
        try:
            self.work = spare.pop()
        except IndexError:
            self.work = call.cuda.device_array(self.end, model.dtype)

    def give_back(self) -> None:
        spare = _spare.setdefault(self._key, [])
        if len(spare) < 2:
            spare.append(self.work)
        while len(_spare) > SIZES_KEPT:  # many batch sizes must not fill the device
            _spare.pop(next(iter(_spare)))


def _table(model: Any, dropout: bool = False, one_hot: bool = False) -> dict[str, tuple[Any, Any]]:
    return kernels(str(model.dtype), model.activation, model.loss_name, dropout, one_hot)


def _product(entry: Any, rows: int, columns: int, *arguments: Any) -> None:
    grid = (-(-rows // TILE), -(-columns // TILE))
    entry[0][grid, (TILE, TILE)](*arguments)


def _by_row(entry: Any, rows: int, *arguments: Any) -> None:
    threads = 32 if SIMULATOR else THREADS
    entry[0][-(-rows // threads), threads](*arguments)


def _layer_scalars(model: Any, seed: np.uint64 | None, layer: int) -> tuple[Any, Any, Any, Any]:
    """The dropout's scale, its inverse, the key and the threshold of a hidden layer, counted from 0."""
    scalar = model.dtype.type
    if seed is None:
        return scalar(1), scalar(1), np.uint64(0), np.uint64(0)
    keep = 1.0 - model.dropout
    key = np.uint64(plain(layer_key)(seed, layer))
    return scalar(1.0 / keep), scalar(keep), key, drop_threshold(model.dropout)


def _forward(model: Any, call: _Call) -> Any:
    buffers = _Buffers(model, call)
    z = call.cuda.device_array((call.rows, model.sizes[-1]), model.dtype)
    _forward_layers(model, call, buffers, z.reshape(z.size), 0, None)
    buffers.give_back()
    return z


def _forward_layers(model: Any, call: _Call, buffers: _Buffers, z: Any, z_start: int, seed: np.uint64 | None) -> None:
    table = _table(model, seed is not None)
    below, below_start = call.X, 0
    stack = list(layers(model.sizes))
    for index, layer in enumerate(stack):
        last = index == len(stack) - 1
        here, here_start = (z, z_start) if last else (buffers.work, buffers.hidden[index])
        _product(
            table["output" if last else "hidden"],
            *(call.rows, layer.outputs),
            *(below, below_start, call.params, layer.weights, here, here_start),
            *(call.rows, layer.outputs, layer.inputs, call.params, layer.biases),
            *_layer_scalars(model, None if last else seed, index),
        )
        below, below_start = here, here_start


def _forward_and_loss(
    model: Any, call: _Call, buffers: _Buffers, y: Any, targets: Any, one_hot: bool, seed: np.uint64 | None
) -> float:
    """The passes up to the loss, which comes to the host; raises for targets that are not allowed."""
    work, outputs = buffers.work, model.sizes[-1]
    table = _table(model, seed is not None, one_hot)
    _forward_layers(model, call, buffers, work, buffers.z, seed)
    count = call.rows * (1 if model.loss_name == "cross_entropy" else outputs)
    _by_row(
        table["loss"],
        call.rows,
        *(work, buffers.z, work, buffers.deltas[0], buffers.losses, buffers.bad),
        *(targets, call.rows, outputs, model.dtype.type(1.0 / count)),
    )
    for slot, start in enumerate((buffers.losses, buffers.bad)):
        table["sum"][0][1, THREADS](work, start, call.rows, work, buffers.results + slot)
    if model.l2 != 0:
        for index, layer in enumerate(layers(model.sizes)):
            size = layer.inputs * layer.outputs
            slot = buffers.results + 2 + index
            table["sum_of_squares"][0][1, THREADS](call.params, layer.weights, size, work, slot)
    results = work[buffers.results : buffers.end].copy_to_host()
    if results[1] != 0:
        buffers.give_back()
        checks.refuse_targets(model, targets.copy_to_host().reshape(call.rows, -1), one_hot)
    value = float(results[0]) / count
    if model.l2 != 0:
        value += 0.5 * model.l2 * float(results[2:].sum(dtype=np.float64))
    return value


def _backward(model: Any, call: _Call, buffers: _Buffers, grads: Any, seed: np.uint64 | None) -> None:
    table = _table(model, seed is not None)
    work, rows = buffers.work, call.rows
    which = 0
    for index, layer in reversed(list(enumerate(layers(model.sizes)))):
        delta = buffers.deltas[which]
        below, below_start = (call.X, 0) if index == 0 else (work, buffers.hidden[index - 1])
        sums, _ = table["column_sums"]
        sums[-(-layer.outputs // TILE), (TILE, TILE)](work, delta, rows, layer.outputs, grads, layer.biases)
        scalar, word = model.dtype.type, np.uint64(0)
        _product(
            table["weights"],
            *(layer.inputs, layer.outputs),
            *(below, below_start, work, delta, grads, layer.weights),
            *(layer.inputs, layer.outputs, rows, call.params, layer.weights),
            *(scalar(model.l2), scalar(1), word, word),
        )
        if index > 0:
            which = 1 - which
            _product(
                table["delta"],
                *(rows, layer.inputs),
                *(work, delta, call.params, layer.weights, work, buffers.deltas[which]),
                *(rows, layer.inputs, layer.outputs, work, below_start),
                *_layer_scalars(model, seed, index - 1),
            )


def _checked(model: Any, params: Any, X: Any) -> _Call:
    memory = describe("params", params, write=False)
    checks.vector(model, "params", memory.dtype, memory.shape)
    checks.input_shape(model, describe("X", X, write=False, dtypes=None).shape)
    inputs = describe("X", X, write=False)
    if inputs.dtype != model.dtype:
        raise TypeError(
            f"X has dtype {inputs.dtype} and the model {model.dtype}; on a CUDA device nothing is converted: "
            f"X.astype({str(model.dtype)!r})"
        )
    cuda = require_cuda()
    device = one_device([("params", memory), ("X", inputs)])
    return _Call(cuda, device, flat_vector(memory), flat_vector(inputs), inputs.shape[0])


def _check_apart(out: DeviceMemory, name: str, x: DeviceMemory) -> None:
    out_end, x_end = (m.pointer + m.size * m.dtype.itemsize for m in (out, x))
    if out.pointer < x_end and x.pointer < out_end:
        raise ValueError(f"out and {name} overlap in device memory; out needs its own: leave it out for a new array")


def _same_device(call: _Call, *others: tuple[str, int]) -> None:
    for name, device in others:
        if device != call.device:
            raise ValueError(f"params is on device {call.device} and {name} on device {device}; copy them to one")


def _targets(model: Any, y: Any, rows: int) -> tuple[Any, bool, int]:
    """The targets as a flat device vector, whether they are labels for the mean squared error, and their device."""
    memory = describe("y", y, write=False, dtypes=None)
    checks.target_kind(model, memory.dtype, memory.shape, rows)
    if memory.dtype.kind == "f" and memory.dtype != model.dtype:
        raise TypeError(
            f"y has dtype {memory.dtype} and the model {model.dtype}; on a CUDA device nothing is converted: "
            f"y.astype({str(model.dtype)!r})"
        )
    one_hot = checks.implies_one_hot(model, memory.dtype, memory.shape)
    return flat_vector(memory), one_hot, one_device([("y", memory)])
