"""The optimizers: one file each, listed here by name.

A file of that name has the declaration `OPTIMIZER`; everything that is for all optimizers goes through these tables.
"""

from __future__ import annotations

from importlib import import_module

from ..kernels.rule import Rule
from .optimizer import Method, Optimizer

OPTIMIZERS: dict[str, Optimizer] = {
    name: import_module(f".{name}", __package__).OPTIMIZER
    for name in (
        "nesterov",
        "adam",
        "adamw",
        "nadam",
        "fista",
        "lion",
        "rmsprop",
        "adagrad",
        "schedule_free_sgd",
        "schedule_free_adamw",
    )
}  # fmt: skip
RULES: dict[str, Rule] = {name: optimizer.rule for name, optimizer in OPTIMIZERS.items()}
METHODS: dict[str, Method] = {method.name: method for optimizer in OPTIMIZERS.values() for method in optimizer.methods}


def optimizer_of(method: str) -> Optimizer:
    """The optimizer that a method of training belongs to."""
    return next(made for made in OPTIMIZERS.values() if METHODS[method] in made.methods)
