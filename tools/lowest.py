"""The oldest dependencies that pyproject.toml allows, as constraints for pip.

    python -m tools.lowest test plot > lowest.txt && pip install -c lowest.txt '.[test,plot]'

A requirement `name>=X` becomes `name==X`; those without a lower bound are left to pip.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def lowest(extras: Iterable[str] = (), root: Path = ROOT) -> list[str]:
    """Lines `name==version` for the project's dependencies and those of some extras."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    lines = []
    for requirement in wanted:
        found = re.match(r"([\w.-]+)(?:\[[\w,-]+\])?\s*>=\s*([\w.]+)", requirement)
        if found:
            lines.append(f"{found[1]}=={found[2]}")
    return lines


if __name__ == "__main__":
    print("\n".join(lowest(sys.argv[1:])))
