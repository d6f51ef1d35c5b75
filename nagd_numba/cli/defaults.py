"""What `nagd-numba train` takes where the command line says nothing.

On the digits each method has its own best learning rate, and momentum, of a grid: the pair with the lowest mean train
loss over 10 trainings from different seeds, found and checked on 10 others by `python -m benchmarks.defaults`.  Rates
are best for one network, data set and batch size, so other data has one for all, that of `Config`.

Batches have 256 rows there: with the 32 of `Config` gradients are noisy, and gradient descent at its best rate comes
within a factor of 3 of the others' losses; with 256 it is 16, which is what momentum is for.
"""

from __future__ import annotations

import argparse
from typing import Any

from ..optimizers.registry import METHODS
from .config import Config, Pair

BATCH_SIZE = 256  # on the digits
PAIRS: dict[str, Pair] = {
    "gd": (1.0, None),
    "momentum": (0.5, 0.9),
    "nag": (0.5, 0.95),
    "adam": (0.05, None),
    "adamw": (0.05, None),
    "nadam": (0.02, None),
    "lion": (0.01, None),
    "rmsprop": (0.01, None),
    "adagrad": (0.05, None),
}
OPTIONS = ("lr", "adam_lr", "momentum", "batch_size")  # which depend on the data, and are None where not given


def config_of(args: argparse.Namespace, fields: dict[str, Any]) -> Config:
    """The configuration that the fields of the command line mean for its data."""
    given = {name: value for name, value in fields.items() if name not in OPTIONS or value is not None}
    if args.data is not None:
        return Config(**given)
    pairs = {}
    for name, method in METHODS.items():
        usual = PAIRS.get(name, (getattr(Config, method.lr), None if method.lr != "lr" else Config.momentum))
        lr, momentum = given.get(method.lr, usual[0]), usual[1]
        pairs[name] = (lr, momentum if momentum is None else given.get("momentum", momentum))
    return Config(**{"batch_size": BATCH_SIZE, **given, "pairs": pairs})
