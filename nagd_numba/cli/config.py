"""What `nagd-numba train` can be told, with the defaults, checked."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..optimizers.registry import METHODS
from ..validation import choice

ACTIVATIONS = ("relu", "tanh", "sigmoid", "identity")
LOSSES = ("cross_entropy", "mse", "binary_cross_entropy")
DTYPES = ("float32", "float64")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "tf32")


@dataclass(frozen=True)
class Config:
    """What to run.  Raises `ValueError` that names the option of the command line."""

    methods: tuple[str, ...] = ("gd", "momentum", "nag")
    epochs: int = 20
    batch_size: int = 32
    hidden: tuple[int, ...] = (128,)
    lr: float = 0.05
    adam_lr: float = 0.001
    momentum: float = 0.9
    dropout: float = 0.2
    l2: float = 0.0
    activation: str = "relu"
    loss: str = "cross_entropy"
    seed: int = 0
    validation: float = 0.1
    target: float = 95.0
    dtype: str = "float32"
    device: str = "auto"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError(f"--methods is empty; some of {', '.join(METHODS)} are needed")
        for method in self.methods:
            choice("--methods", method, tuple(METHODS))
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"--methods is {','.join(self.methods)}; each method can be there once")
        for name, low, high in (("epochs", 1, 10**6), ("batch_size", 1, 2**31), ("seed", 0, 2**63)):
            _whole(name, getattr(self, name), low, high)
        for width in self.hidden:
            _whole("hidden", width, 1, 10**6)
        choice("--dtype", self.dtype, DTYPES)
        choice("--activation", self.activation, ACTIVATIONS)
        choice("--loss", self.loss, LOSSES)
        choice("--device", self.device, DEVICES)
        choice("--precision", self.precision, PRECISIONS)
        if self.precision == "tf32" and (self.dtype != "float32" or self.device == "cpu"):
            raise ValueError(
                f"--precision is tf32, --dtype {self.dtype} and --device {self.device}; tf32 is for float32 on cuda"
            )
        largest = float(np.finfo(self.dtype).max)
        needed = f"a number above 0 (finite in {self.dtype})"
        _number("lr", self.lr, lambda x: 0 < x <= largest, needed)
        _number("adam_lr", self.adam_lr, lambda x: 0 < x <= largest, needed)
        _number("momentum", self.momentum, lambda x: 0 <= x < 1, "a number from 0 to below 1")
        _number("dropout", self.dropout, lambda x: 0 <= x < 1, "a number from 0 to below 1")
        _number("l2", self.l2, lambda x: 0 <= x <= largest, f"a number from 0 on (finite in {self.dtype})")
        _number("validation", self.validation, lambda x: 0 < x <= 0.5, "a share above 0, at most 0.5")
        _number("target", self.target, lambda x: 0 < x <= 100, "a percentage above 0, at most 100")


def _whole(name: str, x: Any, low: int, high: int) -> None:
    try:
        right = not isinstance(x, bool) and low <= operator.index(x) < high
    except TypeError:
        right = False
    if not right:
        raise ValueError(f"{_flag(name)} is {x!r}; a whole number from {low} to below {high} is needed")


def _number(name: str, x: Any, allowed: Callable[[Any], bool], need: str) -> None:
    try:
        right = allowed(x)  # NaN is never right
    except TypeError:
        right = False
    if not right:
        raise ValueError(f"{_flag(name)} is {x!r}; {need} is needed")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
