"""The update rules: one file each, listed here.

The common tests, the PTX and simulator legs and the benchmarks run over `RULES`.
"""

from __future__ import annotations

from . import nesterov
from .base import Rule
from .nesterov import bengio_update, caffe_update, keras_update, nesterov_update

RULES: dict[str, Rule] = {rule.name: rule for rule in (nesterov.RULE,)}

__all__ = ["RULES", "Rule", "bengio_update", "caffe_update", "keras_update", "nesterov_update"]
