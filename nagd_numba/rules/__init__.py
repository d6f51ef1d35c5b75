"""The update rules: one file each, listed here by name.

The common tests, the PTX and simulator legs and the benchmarks run over `RULES`.
"""

from __future__ import annotations

from importlib import import_module

from .adam import adam_update
from .adamw import adamw_update
from .base import Rule
from .fista import fista_update
from .nadam import nadam_update
from .nesterov import bengio_update, caffe_update, keras_update, nesterov_update

RULES: dict[str, Rule] = {
    name: import_module(f".{name}", __name__).RULE
    for name in (
        "nesterov",
        "adam",
        "adamw",
        "nadam",
        "fista",
    )
}  # fmt: skip

__all__ = [
    "RULES",
    "Rule",
    "adam_update",
    "adamw_update",
    "bengio_update",
    "caffe_update",
    "fista_update",
    "keras_update",
    "nadam_update",
    "nesterov_update",
]
