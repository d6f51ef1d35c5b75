"""Outputs, loss and gradient of a network where its parameters are: by the kernels of the CPU, or on a CUDA device."""

from __future__ import annotations

import functools
from typing import Any, NoReturn

import numpy as np

from .. import validation
from ..kernels.forms import Forms, threads_may_run
from ..kernels.jit import SIMULATOR
from . import arguments
from .cpu import inference as kernels
from .cpu.classes import classes_of
from .cpu.losses import probability_kernel
from .spec import NetworkSpec, of_targets, terms

PARALLEL_FLOP = 2e7  # of `forward`, from which on two threads beat one

_NO_DROPOUT = (np.uint64(0), np.uint64(0), 1.0)  # seed, threshold, and the share that is kept
_NO_PROBABILITIES = "loss is 'mse', whose outputs are no probabilities; use predict or forward"


def forward(spec: NetworkSpec, params: Any, X: Any) -> Any:
    """See `MLP.forward`."""
    if _on_device(spec, params, X):
        return _device().forward(spec, params, X)
    return _host_forward(spec, params, X)


def predict_proba(spec: NetworkSpec, params: Any, X: Any) -> Any:
    """See `MLP.predict_proba`."""
    if spec.loss == "mse":
        raise ValueError(_NO_PROBABILITIES)
    if _on_device(spec, params, X):
        return _device().predict_proba(spec, params, X)
    z = _host_forward(spec, params, X)
    probability_kernel(spec.dtype_name, spec.loss).kernel(z)
    return z


def predict(spec: NetworkSpec, params: Any, X: Any) -> Any:
    """See `MLP.predict`."""
    if spec.loss == "mse":
        return forward(spec, params, X)
    if _on_device(spec, params, X):
        return _device().predict(spec, params, X)
    given, inputs = arguments.parameters(spec, params), arguments.inputs(spec, X)
    rows = inputs.shape[0]
    labels = np.empty(rows if spec.loss == "cross_entropy" else (rows, spec.sizes[-1]), np.int64)
    kernel, product, forms = classes_of(spec.dtype_name, spec.activation, spec.loss)
    if not kernel(given, inputs, spec.dims, labels, product, _record(forms, spec, rows)):  # a NaN has no class
        _refuse_nan(spec, params, X, _host_forward(spec, params, X))
    return labels


def loss(spec: NetworkSpec, params: Any, X: Any, y: Any) -> float:
    """See `MLP.loss`."""
    if _on_device(spec, params, X, y):
        return float(_device().loss(spec, params, X, y))
    params, X = arguments.parameters(spec, params), arguments.inputs(spec, X)
    y = arguments.targets(spec, y, X.shape[0])
    spec = of_targets(spec, y.ndim)
    kernel, functions = kernels.value_of(spec.dtype_name, spec.activation, spec.loss, spec.l2 != 0)
    value, bad = kernel(params, X, y, spec.dims, spec.l2, terms(spec), functions)
    if bad >= 0:
        arguments.refuse_targets(spec, y, one_hot=False)
    return float(value)


def value_and_grad(
    spec: NetworkSpec, params: Any, X: Any, y: Any, out: Any, dropout_seed: int | None
) -> tuple[float, Any]:
    """See `MLP.value_and_grad`."""
    seed = None if dropout_seed is None else arguments.seed("dropout_seed", dropout_seed)
    if spec.dropout == 0:
        seed = None
    if _on_device(spec, params, X, y, out):
        value, grads = _device().value_and_grad(spec, params, X, y, out, seed)
        return float(value), grads
    params, X = arguments.parameters(spec, params), arguments.inputs(spec, X)
    y = arguments.targets(spec, y, X.shape[0])
    if out is None:
        grads = out = np.empty(spec.size, spec.dtype)
    else:
        grads = arguments.parameters(spec, out, "out", write=True)
        arguments.apart("out", grads, params=params, X=X, y=y)
    dropout = _NO_DROPOUT if seed is None else (seed, spec.threshold, 1.0 - spec.dropout)
    spec = of_targets(spec, y.ndim)
    kernel, functions = kernels.gradient_of(spec.dtype_name, spec.activation, spec.loss, spec.l2 != 0)
    value, bad = kernel(params, X, y, grads, spec.dims, spec.l2, terms(spec), dropout, functions)
    if bad >= 0:
        arguments.refuse_targets(spec, y, one_hot=False)
    validation.tell_torch(out)
    return float(value), out


def _host_forward(spec: NetworkSpec, params: Any, X: Any) -> np.ndarray:
    params, X = arguments.parameters(spec, params), arguments.inputs(spec, X)
    out = np.empty((X.shape[0], spec.sizes[-1]), spec.dtype)
    kernel, product, forms = kernels.forward_of(spec.dtype_name, spec.activation)
    kernel(params, X, spec.dims, out, product, _record(forms, spec, len(X)))
    return out


def _record(forms: Forms, spec: NetworkSpec, rows: int) -> int:
    """What a kernel chooses its form by: 0 where threads cannot pay."""
    return forms.address if 2.0 * rows * spec.size >= PARALLEL_FLOP and threads_may_run() else 0


def _refuse_nan(spec: NetworkSpec, params: Any, X: Any, z: np.ndarray) -> NoReturn:
    """Say where the NaN in the outputs `z` come from."""
    validation.finite("X", arguments.as_array("X", X), spec.dtype)
    validation.finite("params", arguments.parameters(spec, params))
    row = int(np.isnan(z).any(axis=1).argmax())
    raise ValueError(f"the outputs are NaN in row {row}, where infinities meet: X or params has too large numbers")


def _on_device(spec: NetworkSpec, params: Any, X: Any, y: Any = None, out: Any = None) -> bool:
    """Are the arrays on a device?  Raises where only some of them are, and where the host lacks the precision."""
    if not (type(params) is type(X) is np.ndarray and y is None and out is None):  # these need no look
        named = ("params", params), ("X", X), ("y", y), ("out", out)
        if validation.any_on_device([(name, x) for name, x in named if x is not None]):
            return True
    arguments.host_precision(spec)
    return False


@functools.cache
def _device() -> Any:
    if SIMULATOR:
        return _Simulated()
    from .gpu import inference

    return inference


class _Simulated:
    """The functions above for the simulator's device arrays, which lie in host memory: the CPU works on them there."""

    def __getattr__(self, name: str) -> Any:
        from ..gpu.target import cuda

        def run(spec: NetworkSpec, *given: Any) -> Any:
            made = globals()[name](spec, *map(validation.unsimulated, given))
            if name == "value_and_grad":
                value, grads = made
                return value, cuda.to_device(grads) if given[3] is None else given[3]
            return made if name == "loss" else cuda.to_device(made)

        return run
