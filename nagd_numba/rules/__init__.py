"""The update rules: one file each, listed here by name.

The common tests, the PTX and simulator legs and the benchmarks run over `RULES`.
"""

from __future__ import annotations

from importlib import import_module

from .base import Rule
from .nesterov import bengio_update, caffe_update, keras_update, nesterov_update

RULES: dict[str, Rule] = {
    name: import_module(f".{name}", __name__).RULE
    for name in (
        "nesterov",
    )
}  # fmt: skip

__all__ = ["RULES", "Rule", "bengio_update", "caffe_update", "keras_update", "nesterov_update"]
