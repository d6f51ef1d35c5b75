"""The optimizers: one file each, listed here by name."""

from __future__ import annotations

from importlib import import_module

from ..kernels.rule import Rule

RULES: dict[str, Rule] = {
    name: import_module(f".{name}", __package__).RULE
    for name in (
        "nesterov",
        "adam",
        "adamw",
        "nadam",
        "fista",
    )
}  # fmt: skip
