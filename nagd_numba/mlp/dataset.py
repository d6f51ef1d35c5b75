"""What training takes as data, checked and in the form of the kernels; X is never copied if that can be avoided."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .. import validation
from . import arguments
from .labels import AS_THEY_ARE, Labels
from .losses import LOSSES
from .sparse import SparseRows, is_sparse, sparse_rows
from .spec import NetworkSpec

_READ_AS_GIVEN = ("float32", "float64", "uint8")  # other dtypes of X are converted, all at once


@dataclass(frozen=True)
class Data:
    """Samples in host memory: X as given, C-contiguous, of any real dtype; targets as the kernels take them."""

    X: np.ndarray | SparseRows
    y: np.ndarray
    weights: np.ndarray
    scale: float = 1.0

    def arrays(self) -> dict[str, np.ndarray]:
        """All of them, by the arguments that they are of."""
        X = {"X": self.X} if isinstance(self.X, np.ndarray) else {"X.data": self.X.values, "X.indices": self.X.columns}
        return {**X, "y": self.y, "sample_weight": self.weights}


class Split(NamedTuple):
    """Samples, and which rows train and which validate."""

    data: Data
    rows: np.ndarray
    validation: Data | None
    validation_rows: np.ndarray


def samples(spec: NetworkSpec, X: Any, y: Any, weights: Any = None, labels: Labels = AS_THEY_ARE) -> Data:
    """`X`, `y` and the weights as the kernels take them."""
    for what, x in (("X", X), ("y", y), ("sample_weight", weights)):
        if validation.is_device_array(x):
            raise TypeError(f"{what} is on a CUDA device; training takes arrays in host memory: {what}.get()")
    x = _inputs(spec, X)
    scale = arguments.UINT8_SCALE if x.dtype == np.uint8 else 1.0
    given = y if type(y) is np.ndarray else arguments.as_array("y", y)
    arguments.target_kind(spec, given.dtype, given.shape, len(x))
    validation.finite("y", given, spec.dtype)
    t = arguments.targets(spec, given, len(x))
    if LOSSES[spec.loss].coupled or LOSSES[spec.loss].binary:
        arguments.refuse_targets(spec, t, one_hot=False, only_if_bad=True)
    own = labels.weighted(spec, given, _weights(spec, weights, len(x)))
    return Data(x, labels.smoothed(spec, t), _in_dtype(spec, own), scale)


def _inputs(spec: NetworkSpec, X: Any) -> np.ndarray | SparseRows:
    """X as the kernels read it: itself, wherever that can be."""
    if is_sparse(X):
        arguments.input_shape(spec, X.shape)
        return sparse_rows(X, spec.dtype)
    x = X if type(X) is np.ndarray else arguments.as_array("X", X)
    arguments.input_shape(spec, x.shape)
    validation.finite("X", x, spec.dtype)
    if x.dtype.name not in _READ_AS_GIVEN or not x.dtype.isnative:
        x = arguments.inputs(spec, x)
    x = np.asarray(x)  # of a memory map the plain array
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def _weights(spec: NetworkSpec, weights: Any, rows: int) -> np.ndarray | None:
    if weights is None:
        return None
    w = arguments.as_array("sample_weight", weights)
    if w.dtype.kind not in "fiub":
        raise TypeError(f"sample_weight has dtype {w.dtype}; real numbers are needed")
    if w.shape != (rows,):
        raise ValueError(f"sample_weight has shape {w.shape} and X {rows} rows; one weight a row is needed: ({rows},)")
    validation.finite("sample_weight", w, spec.dtype)
    if (w < 0).any():
        row = int((w < 0).argmax())
        raise ValueError(f"sample_weight is {validation.shown(w[row])} in row {row}; weights >= 0 are needed")
    if not w.astype(spec.dtype).any():
        raise ValueError("sample_weight has only zero weights; one > 0 is needed")
    return w


def _in_dtype(spec: NetworkSpec, weights: np.ndarray | None) -> np.ndarray:
    """The weights for the kernels; none are an empty vector."""
    if weights is None:
        return np.zeros(0, spec.dtype)
    with np.errstate(all="ignore"):
        w = weights.astype(spec.dtype)
    if not (np.isfinite(w).all() and w.any()):
        raise ValueError(f"class_weight makes weights of the samples that are all 0, or not finite (in {spec.dtype})")
    return w


def split(spec: NetworkSpec, data: Data, validation: Any, seed: int, labels: Labels = AS_THEY_ARE) -> Split:
    """Training and validation rows: `validation` is None, a share of the rows, or (X, y) or (X, y, weights).

    Targets of the latter are smoothed, too; their weights are those given.
    """
    n = len(data.X)
    none = np.zeros(0, np.int64)
    if validation is None:
        return Split(data, np.arange(n), None, none)
    if isinstance(validation, tuple | list):
        if len(validation) not in (2, 3):
            raise ValueError(f"validation has {len(validation)} parts; (X, y) or (X, y, sample_weight) is needed")
        X, y, *weights = validation
        try:
            other = samples(spec, X, y, weights[0] if weights else None, replace(labels, class_weight=None))
        except (TypeError, ValueError) as error:
            raise type(error)(f"validation: {error}") from error
        return Split(data, np.arange(n), other, np.arange(len(other.X)))
    try:
        if isinstance(validation, str | bytes):
            raise TypeError("text")
        share = float(validation)
    except (TypeError, ValueError) as error:
        raise TypeError(f"validation is {validation!r}; None, a share of the rows, or (X, y) is needed") from error
    held = round(share * n) if 0 < share < 1 else 0
    if held in (0, n):
        raise ValueError(f"validation is {validation!r} of {n} rows; a share that leaves rows on both sides is needed")
    order = np.random.default_rng([seed, 2]).permutation(n)
    rows, others = np.sort(order[held:]), np.sort(order[:held])
    if len(data.weights) and (data.weights[rows].sum() == 0 or data.weights[others].sum() == 0):
        raise ValueError(f"validation is {validation!r}, and all rows of one side have sample_weight 0")
    return Split(data, rows, data, others)
