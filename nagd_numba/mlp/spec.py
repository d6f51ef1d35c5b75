"""`NetworkSpec`: what a network is, without its parameters; all below `MLP` works on it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validation
from . import arguments, layout
from .activations import ACTIVATIONS
from .dropout import drop_threshold
from .losses import LOSSES


@dataclass(frozen=True)
class NetworkSpec:
    """A network: its layers, its loss and its arithmetic.  `NetworkSpec.checked` makes one from unchecked arguments."""

    sizes: tuple[int, ...]
    activation: str = "relu"
    loss: str = "cross_entropy"
    dropout: float = 0.0
    l2: float = 0.0
    dtype: np.dtype[Any] = np.dtype(np.float32)
    precision: str = "float32"

    @classmethod
    def checked(
        cls, sizes: Any, activation: Any, loss: Any, dropout: Any, l2: Any, dtype: Any, precision: Any
    ) -> NetworkSpec:
        """The network of these arguments of `MLP`; raises TypeError or ValueError for unfit ones."""
        widths = layout.checked_sizes(sizes)
        validation.choice("activation", activation, tuple(ACTIVATIONS))
        validation.choice("loss", loss, tuple(LOSSES))
        rate = arguments.dropout_rate(dropout)
        kind = arguments.float_type(dtype)
        arithmetic = arguments.precision(precision, kind)
        (penalty,) = validation.hyper_parameters({"l2": l2}, kind)
        return cls(widths, activation, loss, rate, penalty, kind, arithmetic)

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
