"""What the asv suites share.

A suite measures in its `setup_cache`, once for all its figures, in one process in which the contenders take turns
after a second of warm-up (`nagd_numba/bench/timing.py`); asv then asks for the figures one by one.  Two reasons: a
process for each figure, as asv has it, could not interleave; and asv_runner 0.3 calls a benchmark that has a `setup`
once, cold.  All figures are such that less is better, which is how asv tells a regression: times, seconds for a
gigabyte, ratios of ours to others.

The harness is that of this checkout, whatever version of the package asv has installed: old versions are measured as
new ones are.  asv.conf.json fixes the numbers of threads; so does this file for a run with `--python=same`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HARNESS = "nagd_numba_bench"  # the name that today's nagd_numba/bench has here

for name, values in json.loads((ROOT / "asv.conf.json").read_text())["matrix"]["env_nobuild"].items():
    os.environ.setdefault(name, values[0])

QUICK = bool(os.environ.get("NAGD_NUMBA_QUICK_BENCH"))  # the suites run, and the figures mean nothing


def harness(module: str) -> Any:
    """A module of this checkout's `nagd_numba/bench`, which measures the `nagd_numba` that is installed."""
    if HARNESS not in sys.modules:
        folder = ROOT / "nagd_numba" / "bench"
        spec = importlib.util.spec_from_file_location(
            HARNESS, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        sys.modules[HARNESS] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[HARNESS])
    return importlib.import_module(f"{HARNESS}.{module}")


class Found:
    """Seconds of the contenders in one case, by rounds, and why others have none."""

    def __init__(self, seconds: Mapping[str, list[float]], missing: Mapping[str, str]) -> None:
        self.seconds, self.missing = dict(seconds), dict(missing)

    def require(self, name: str) -> None:
        """For `setup`: what could not be measured is n/a, and says why."""
        if name not in self.seconds:
            raise NotImplementedError(self.missing.get(name, "not measured"))

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def over(self, name: str, other: str) -> float:
        """The median over the rounds of the ratio of their times: above 1, `name` is the slower one."""
        self.require(other)
        return statistics.median(a / b for a, b in zip(self.seconds[name], self.seconds[other], strict=True))

    def over_best(self, name: str, peers: tuple[str, ...]) -> float:
        """The same against the fastest of some that are there."""
        there = [peer for peer in peers if peer in self.seconds]
        if not there:
            raise NotImplementedError(f"none of {', '.join(peers)} is installed")
        return self.over(name, min(there, key=self.median))


Results = dict[Any, Found]
