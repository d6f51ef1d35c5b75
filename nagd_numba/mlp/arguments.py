"""What a network accepts, and the messages about what it does not.  Nothing here writes to a given array."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from .. import validation
from .losses import LOSSES, SUM_TOLERANCE
from .spec import NetworkSpec

UINT8_SCALE = 1 / 255
_AT_ONCE = 1 << 20  # elements that are looked at together


def host_precision(spec: NetworkSpec) -> None:
    """Raise unless the CPU has the precision of a model."""
    if spec.precision == "tf32":
        raise ValueError(
            "precision is 'tf32', which only CUDA devices have, and params is in host memory; copy params to a device, "
            "or take MLP(..., precision='float32'), for which the same params serve"
        )


Element = tuple[int, float]  # an index and the value there


def bad_element(x: np.ndarray, before: int = 0) -> Element | None:
    """The first element of a vector that is not finite, or None; `before` are counted before the vector."""
    at = validation.first_not_finite(x)
    return None if at is None else (before + at[0], float(x[at]))


def seed(name: str, x: Any) -> np.uint64:
    """An integer of 64 bits."""
    return np.uint64(validation.whole(name, x, 0, 1 << 64))


def parameters(spec: NetworkSpec, params: Any, name: str = "params", write: bool = False) -> np.ndarray:
    """A contiguous host vector of the model's size and dtype, on the memory of `params`."""
    usual = not write and type(params) is np.ndarray and params.dtype is spec.dtype and params.flags.c_contiguous
    if usual and params.shape == (spec.size,):
        return params
    x = validation.host_array(name, params, write)
    vector(spec, name, x.dtype, x.shape)
    if not x.flags.c_contiguous:
        raise ValueError(f"{name} is strided; a contiguous vector is needed: np.ascontiguousarray({name})")
    return x


def vector(spec: NetworkSpec, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Raise unless these are the dtype and the shape of the model's parameters."""
    if dtype != spec.dtype:
        raise TypeError(
            f"{name} has dtype {dtype} and the model {spec.dtype}; one dtype is needed: "
            f"{name}.astype({str(spec.dtype)!r}), or MLP(..., dtype={str(dtype)!r})"
        )
    if tuple(shape) != (spec.size,):
        raise ValueError(
            f"{name} has shape {tuple(shape)}; a network of sizes {spec.sizes} has {spec.size} parameters in one "
            f"vector: MLP.init makes one"
        )


def matrix(spec: NetworkSpec, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """The same for the parameters of many models, a row each."""
    if dtype != spec.dtype:
        raise TypeError(f"{name} has dtype {dtype} and the model {spec.dtype}; one dtype is needed")
    if len(shape) != 2 or shape[1] != spec.size:
        raise ValueError(
            f"{name} has shape {tuple(shape)}; a row of {spec.size} parameters for each network is needed: "
            f"np.stack([mlp.init(seed) for seed in range(8)])"
        )


def states(spec: NetworkSpec, dtype: np.dtype, shape: tuple[int, ...], needed: tuple[int, ...]) -> None:
    """Raise unless these are the dtype and the shape of an optimizer's states."""
    if dtype != spec.dtype:
        raise TypeError(f"vel has dtype {dtype} and the model {spec.dtype}; one dtype is needed")
    if tuple(shape) != needed:
        raise ValueError(
            f"vel has shape {tuple(shape)}; the {needed[-1] // spec.size} states of {spec.size} parameters, one after "
            f"the other, are needed: np.zeros({needed}, {str(spec.dtype)!r})"
        )


def average(spec: NetworkSpec, name: str, dtype: Any, shape: tuple[int, ...], needed: tuple[int, ...]) -> None:
    """Raise unless these are the dtype and the shape of an average of the parameters `name`."""
    if str(dtype) != str(spec.dtype) or tuple(shape) != needed:
        raise ValueError(
            f"average has shape {tuple(shape)} and dtype {dtype}; that of {name} is needed, {needed} and {spec.dtype}: "
            f"nagd_numba.Average({name})"
        )


def apart(written: str, out: np.ndarray, **others: np.ndarray) -> None:
    """Raise where `out`, which has the name `written`, shares memory with what it is computed from."""
    for name, x in others.items():
        if np.may_share_memory(out, x):
            validation.no_overlap([(written, out), (name, x)], written=(written,))


def inputs(spec: NetworkSpec, X: Any) -> np.ndarray:
    """`X` as a contiguous host matrix of the model's dtype: itself, or a copy where it is something else.

    uint8 is taken for pictures: divided by 255.
    """
    usual = type(X) is np.ndarray and X.dtype is spec.dtype and X.flags.c_contiguous and X.ndim == 2
    if usual and X.shape[1] == spec.sizes[0] and X.shape[0] > 0:
        return X
    x = X if type(X) is np.ndarray else as_array("X", X)
    input_shape(spec, x.shape)
    if x.dtype != spec.dtype:
        if x.dtype.kind not in "fiub":
            raise TypeError(f"X has dtype {x.dtype}; real numbers are needed: X.astype({str(spec.dtype)!r})")
        scaled = x.dtype == np.uint8
        x = x.astype(spec.dtype)
        if scaled:
            x *= spec.dtype.type(UINT8_SCALE)
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def input_shape(spec: NetworkSpec, shape: tuple[int, ...]) -> None:
    """Raise unless this is the shape of a batch of samples."""
    width = spec.sizes[0]
    if len(shape) != 2:
        hint = ": X[None, :] for one sample" if len(shape) == 1 else ""
        raise ValueError(f"X has shape {tuple(shape)}; a matrix of samples by rows is needed, (n, {width}){hint}")
    if shape[1] != width:
        raise ValueError(f"X has shape {tuple(shape)}; this network has {width} inputs: shape (n, {width}) is needed")
    if shape[0] == 0:
        raise ValueError("X has no rows; at least one sample is needed")


def targets(spec: NetworkSpec, y: Any, rows: int) -> np.ndarray:
    """`y` as the kernels take it: int64 labels of shape (n,) for cross entropy, else the model's dtype, (n, outputs).

    The latter are also the probabilities that cross entropy takes.  The values are left to the kernels, except those of
    labels that are made one-hot here.
    """
    t = y if type(y) is np.ndarray else as_array("y", y)
    target_kind(spec, t.dtype, t.shape, rows)
    if spec.loss == "cross_entropy" and t.ndim == 1:
        if t.dtype != np.int64:
            if t.dtype == np.uint64 and t.max() > np.iinfo(np.int64).max:
                refuse_targets(spec, t, one_hot=False)
            t = t.astype(np.int64)
    elif implies_one_hot(spec, t.dtype, t.shape):
        refuse_targets(spec, t, one_hot=True, only_if_bad=True)
        hot = np.zeros((rows, spec.sizes[-1]), spec.dtype)
        hot[np.arange(rows), t.astype(np.int64)] = 1
        return hot
    else:
        t = t.astype(spec.dtype, copy=False).reshape(rows, spec.sizes[-1])
    return t if t.flags.c_contiguous else np.ascontiguousarray(t)


def target_kind(spec: NetworkSpec, dtype: np.dtype, shape: tuple[int, ...], rows: int) -> None:
    """Raise unless targets of this dtype and shape fit the loss and the number of samples."""
    outputs = spec.sizes[-1]
    if spec.loss == "cross_entropy":
        if dtype.kind not in ("iub" if len(shape) == 1 else "fiub"):
            raise TypeError(f"y has dtype {dtype}; cross_entropy needs integer labels in [0, {outputs}): y.astype(int)")
        if tuple(shape) not in ((rows,), (rows, outputs)):
            raise ValueError(
                f"y has shape {tuple(shape)} and X {rows} row{'s' if rows != 1 else ''}; "
                f"cross_entropy needs one label a sample: shape ({rows},), "
                f"or a probability for each class: shape ({rows}, {outputs})"
            )
        return
    if dtype.kind not in "fiub":
        raise TypeError(f"y has dtype {dtype}; real numbers are needed: y.astype({str(spec.dtype)!r})")
    allowed: list[tuple[int, ...]] = [(rows, outputs)]
    if outputs == 1 or implies_one_hot(spec, dtype, shape):
        allowed.append((rows,))
    if tuple(shape) not in allowed:
        raise ValueError(
            f"y has shape {tuple(shape)} and X {rows} row{'s' if rows != 1 else ''}; for {spec.loss} with "
            f"{outputs} output{'s' if outputs != 1 else ''} y needs the shape {' or '.join(map(str, allowed))}"
        )


def implies_one_hot(spec: NetworkSpec, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Are these labels, to be compared with one output each by the mean squared error?"""
    return spec.loss == "mse" and dtype.kind in "iub" and len(shape) == 1 and spec.sizes[-1] > 1


def refuse_targets(spec: NetworkSpec, y: np.ndarray, one_hot: bool, only_if_bad: bool = False) -> None:
    """Name the first value of `y` that the loss does not allow."""
    if LOSSES[spec.loss].coupled and y.ndim == 2:
        _refuse_probabilities(spec, y)
        if not only_if_bad:
            _disagree()
        return
    flat = y.reshape(-1)
    if spec.loss == "cross_entropy" or one_hot:
        bad = (flat < 0) | (flat >= spec.sizes[-1])
        need = f"labels must be in [0, {spec.sizes[-1]}), one for each output"
    else:
        bad = (flat != 0) & (flat != 1)
        need = "binary_cross_entropy needs targets of 0 or 1"
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(f"y is {flat[at]} in row {at * y.shape[0] // y.size}; {need}")
    if not only_if_bad:
        _disagree()


def _refuse_probabilities(spec: NetworkSpec, y: np.ndarray) -> None:
    """Name the first probability below 0, and the first row whose sum is not 1."""
    need = f"cross_entropy needs labels, or a probability for each class, >= 0 and with a sum of 1 (+- {SUM_TOLERANCE})"
    rows = max(1, _AT_ONCE // spec.sizes[-1])
    for first in range(0, len(y), rows):
        part = y[first : first + rows]
        negative = part < 0
        if negative.any():
            row, column = np.unravel_index(negative.argmax(), part.shape)
            raise ValueError(
                f"y is {validation.shown(part[row, column])} in row {first + row}, column {column}; {need}"
            )
        sums = part.sum(axis=1, dtype=np.float64)
        bad = ~(abs(sums - 1) <= SUM_TOLERANCE)
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(f"y sums to {sums[at]:g} in row {first + at}; {need}: y / y.sum(axis=1, keepdims=True)")


def _disagree() -> NoReturn:
    raise RuntimeError("a kernel refused targets that pass every check: please report this")


def as_array(name: str, x: Any) -> np.ndarray:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose masked elements have no meaning here; pass {name}.filled(0)")
    validation.not_sparse(name, x)
    try:
        return np.asarray(x.detach() if hasattr(x, "detach") else x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from error
