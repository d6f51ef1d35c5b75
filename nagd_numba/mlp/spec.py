"""`NetworkSpec`: what a network is, without its parameters; all below `MLP` works on it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from .. import validation
from . import layout
from .activations import ACTIVATIONS
from .dropout import drop_threshold
from .losses import LOSSES, NAMES, SOFT

PRECISIONS = ("float32", "tf32")


@dataclass(frozen=True)
class NetworkSpec:
    """A network: its layers, its loss and its arithmetic.  `NetworkSpec.checked` makes one from unchecked arguments."""

    sizes: tuple[int, ...]
    activation: str
    loss: str
    dropout: float
    l2: float
    dtype: np.dtype[Any]
    precision: str

    @classmethod
    def checked(
        cls, sizes: Any, activation: Any, loss: Any, dropout: Any, l2: Any, dtype: Any, precision: Any
    ) -> NetworkSpec:
        """The network of these arguments of `MLP`; raises TypeError or ValueError for unfit ones."""
        widths = layout.checked_sizes(sizes)
        validation.choice("activation", activation, tuple(ACTIVATIONS))
        validation.choice("loss", loss, NAMES)
        rate = validation.number("dropout", dropout, high=1.0, high_open=True)
        kind = _float_type(dtype)
        arithmetic = _precision(precision, kind)
        (penalty,) = validation.hyper_parameters({"l2": l2}, kind)
        return cls(widths, activation, loss, rate, penalty, kind, arithmetic)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: pickles carry nothing derived."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @functools.cached_property
    def dtype_name(self) -> str:
        """The name of `dtype`, which NumPy takes a microsecond to tell."""
        return self.dtype.name

    @functools.cached_property
    def size(self) -> int:
        """Number of parameters: the length of the flat vector."""
        return layout.parameter_count(self.sizes)

    @functools.cached_property
    def dims(self) -> np.ndarray:
        """`sizes` for the kernels: int64, read-only."""
        widths = np.array(self.sizes, np.int64)
        widths.flags.writeable = False
        return widths

    @functools.cached_property
    def threshold(self) -> np.uint64:
        """Where the random word of a hidden unit is below this, the unit is dropped."""
        return drop_threshold(self.dropout)


def of_targets(spec: NetworkSpec, dimensions: int) -> NetworkSpec:
    """The network with the loss of targets of so many dimensions: cross entropy takes labels, or probabilities."""
    return _with_soft_targets(spec) if dimensions == 2 and spec.loss == "cross_entropy" else spec


@functools.lru_cache(maxsize=64)
def _with_soft_targets(spec: NetworkSpec) -> NetworkSpec:
    return replace(spec, loss=SOFT)


def terms(spec: NetworkSpec) -> int:
    """How many terms of each sample the loss is the mean of: the outputs, where softmax does not couple them."""
    return 1 if LOSSES[spec.loss].coupled else spec.sizes[-1]


def _float_type(dtype: Any) -> np.dtype[Any]:
    """float32 or float64."""
    try:
        kind: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"dtype is {dtype!r}; 'float32' or 'float64' is needed") from error
    if kind not in validation.DTYPES:
        raise TypeError(f"dtype is {dtype!r}; 'float32' or 'float64' is needed")
    return kind


def _precision(name: str, dtype: np.dtype[Any]) -> str:
    """ "float32", or for networks of that dtype "tf32"."""
    validation.choice("precision", name, PRECISIONS)
    if name == "tf32" and dtype != np.float32:
        raise ValueError(f"precision is 'tf32' and dtype {str(dtype)!r}; tf32 is for networks of dtype 'float32'")
    return name
