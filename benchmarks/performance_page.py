"""`python -m benchmarks.performance_page FILE`: the tables of the page about speed, from `nagd-numba bench --json`.

Writes what is between the markers in docs/explanation/performance.md, and the picture docs/performance.png; figures are
not typed by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nagd_numba.bench import report
from nagd_numba.bench.picture import plot
from nagd_numba.bench.sections import SECTIONS
from nagd_numba.io.atomic import replacing

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results" / "cpu.json"
BEGIN, END = "<!-- performance: written by benchmarks/performance_page.py -->\n", "<!-- end of performance -->\n"


def section(results: Mapping[str, Any]) -> str:
    """The text between the markers."""
    machine, versions = results["machine"], results["versions"]
    peers = ("numba", "numpy", "torch", "jax", "optax", "scikit-learn", "numexpr", "warp-lang", "drjit")
    lines = [
        f"On {machine['processor']}, {machine['cores']} cores, {machine['numba_threads']} threads, "
        f"{results['date'][:10]}, commit {(results['commit'] or 'unknown')[:10]}; Python {versions['python']}, "
        + ", ".join(f"{name} {versions[name]}" for name in peers if versions.get(name))
        + ". First the time of ours; the other columns say how many times as long others take (above 1, ours is "
        "faster), and in brackets what the project promises (`python -m benchmarks.gate`).",
        "",
    ]
    for name in SECTIONS:
        rows = results["sections"].get(name)
        if rows and name != "limits":
            table = report.tabled(name, rows, promises=True)
            lines += [f"**{table.title}.** {table.note}".rstrip(), "", report.markdown(table), ""]
    lines += ["![bandwidth of a step over n, and the roofline](../performance.png)", ""]
    return "\n".join(lines)


def replaced(text: str, results: Mapping[str, Any]) -> str:
    """The page with the section of these results."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN.strip()!r} and {END.strip()!r}")
    return f"{before}{begin}\n{section(results)}\n{end}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance_page", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", default=RESULTS, help="(benchmarks/results/cpu.json)")
    results = report.read_json(parser.parse_args().file)
    text = replaced(PAGE.read_text(encoding="utf-8"), results)
    plot(ROOT / "docs" / "performance.png", results)
    with replacing(PAGE) as file:
        file.write(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
