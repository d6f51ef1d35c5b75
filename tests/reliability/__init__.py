"""What is promised of bad moments, tried in numbers: kills, damaged files, odd environments, leaks.

    python -m tests.reliability                   # every part, some seconds each
    python -m tests.reliability kills --long      # one part, as often as its figure in the documentation says
    python -m tests.reliability --share 0.1       # every part, a tenth as often

A part is a module of this package whose name does not begin with `_` or `test_`.  It has

- a docstring, whose first line says what is tried,
- `SHORT` and `LONG`, how often it is tried in the tests (at most some 10 s) and for a figure,
- `trial(count, seed, folder) -> Result`: try `count` times, all chances drawn from `seed`, files in `folder` (a
  `Path`, empty, removed afterwards).  A fault is an entry of `Result.lost` that names how to see it again; an
  exception says that the part itself is broken.

What a part shares with others stands in modules that begin with `_`.  `test_reliability.py` runs each part `SHORT`
times.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import NamedTuple


class Result(NamedTuple):
    """What came of a part."""

    tried: str  # what was tried: a phrase for one line of a table
    times: int  # how often
    lost: tuple[str, ...] = ()  # what went wrong, one line each: the seed or settings that show it, and what was seen
    left_out: str = ""  # what could not be tried on this machine, and why

    @property
    def line(self) -> str:
        """What was tried, how often, what was lost."""
        rest = f"; left out: {self.left_out}" if self.left_out else ""
        return f"{self.tried}: {self.times:,} tried, {len(self.lost):,} lost{rest}"


def parts() -> list[str]:
    """The names of all parts."""
    return sorted(x.name for x in pkgutil.iter_modules(__path__) if not x.name.startswith(("_", "test_")))


def part(name: str) -> ModuleType:
    """The module of a part."""
    return importlib.import_module(f"{__name__}.{name}")
