"""What `nagd-numba train` and `nagd-numba sweep` can be told, with the defaults, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..optimizers.registry import METHODS
from ..validation import choice, number, whole

ACTIVATIONS = ("relu", "tanh", "sigmoid", "identity")
LOSSES = ("cross_entropy", "mse", "binary_cross_entropy")
DTYPES = ("float32", "float64")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "tf32")
MOST_SEEDS = 10_000

Pair = tuple[float, float | None]  # a learning rate, and a momentum where the method takes it from the command line


@dataclass(frozen=True)
class Config:
    """What to run.  Raises `ValueError` that names the option of the command line.

    `lr`, `adam_lr` and `momentum` are for the methods that `pairs` does not name.
    """

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
    reproducible: bool = False
    micro_batches: int = 8
    pairs: Mapping[str, Pair] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError(f"--methods is empty; some of {', '.join(METHODS)} are needed")
        for method in self.methods:
            choice("--methods", method, tuple(METHODS))
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"--methods is {','.join(self.methods)}; each method can be there once")
        _option(whole, "epochs", self.epochs, 1, 10**6)
        _option(whole, "batch_size", self.batch_size, 1, 2**31)
        _option(whole, "seed", self.seed, 0, 2**63)
        _option(whole, "micro_batches", self.micro_batches, 1, 2**31)
        for width in self.hidden:
            _option(whole, "hidden", width, 1, 10**6)
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
        _option(number, "lr", self.lr, high=largest, low_open=True)
        _option(number, "adam_lr", self.adam_lr, high=largest, low_open=True)
        _option(number, "momentum", self.momentum, high=1.0, high_open=True)
        _option(number, "dropout", self.dropout, high=1.0, high_open=True)
        _option(number, "l2", self.l2, high=largest)
        _option(number, "validation", self.validation, high=0.5, low_open=True)
        _option(number, "target", self.target, high=100.0, low_open=True)
        for method, (lr, momentum) in self.pairs.items():
            choice("--methods", method, tuple(METHODS))
            _option(number, METHODS[method].lr, lr, high=largest, low_open=True)
            if momentum is not None:
                _option(number, "momentum", momentum, high=1.0, high_open=True)

    def pair(self, method: str) -> Pair:
        """The learning rate of a method, and its momentum, None where it takes none from the command line."""
        if method in self.pairs:
            lr, momentum = self.pairs[method]
            return lr, momentum
        momentum = self.momentum if METHODS[method].lr == "lr" and METHODS[method].momentum is not None else None
        return getattr(self, METHODS[method].lr), momentum

    def values(self, option: str) -> list[Any]:
        """The value of an option, or the different values that the methods have for it."""
        pairs = {method: self.pair(method) for method in self.methods}
        if option == "momentum":
            used = [momentum for _, momentum in pairs.values() if momentum is not None]
        elif option in ("lr", "adam_lr"):
            used = [lr for method, (lr, _) in pairs.items() if METHODS[method].lr == option]
        else:
            used = []
        return list(dict.fromkeys(used)) or [getattr(self, option)]


@dataclass(frozen=True)
class SweepConfig:
    """What to run: data, network, epochs and batches are those of `base`.  `ValueError` names the option."""

    base: Config = dataclasses.field(default_factory=Config)
    lrs: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    momenta: tuple[float, ...] = (0.0, 0.5, 0.9, 0.95, 0.99)
    seeds: int = 3
    optimizer: str = "nag"

    def __post_init__(self) -> None:
        lists: dict[str, Any] = {"lr": self.lrs, "momentum": self.momenta}
        for name, values in lists.items():
            for value in values:
                dataclasses.replace(self.base, **{name: value})  # which checks it
            if not values or len(set(values)) < len(values):
                given = ",".join(f"{value:g}" for value in values)
                raise ValueError(f"--{name} is {given!r}; at least one number is needed, and each once")
        _option(whole, "seeds", self.seeds, 1, MOST_SEEDS + 1)
        choice("--optimizer", self.optimizer, tuple(METHODS))
        if METHODS[self.optimizer].momentum is None:
            if self.momenta not in (SweepConfig.momenta, (0.0,)):
                raise ValueError(f"--momentum is given, and {self.optimizer} has none; leave it out")
            object.__setattr__(self, "momenta", (0.0,))


def _option(check: Callable[..., Any], name: str, x: Any, *limits: Any, **more: Any) -> None:
    """Check the value of an option; every error is a ValueError that begins with the option."""
    try:
        check("--" + name.replace("_", "-"), x, *limits, **more)
    except TypeError as error:
        raise ValueError(str(error)) from error
