"""Rows of the benchmark as tables: on a terminal, in Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..io.atomic import replacing
from .promises import Promise, promised
from .sections import SECTIONS, Row
from .steps import ADAM, LIMIT, PEERS

SCHEMA = 2
COLUMNS = {  # contenders with a column of their own, in order
    "step": (*PEERS, *LIMIT),
    "adam": tuple(name for name in ADAM if name != "ours"),
    "training": ("JAX", "torch", "scikit-learn"),
    "networks": ("one by one",),
    "prediction": ("NumPy", "torch", "scikit-learn"),
    "adapters": ("torch fused", "torch foreach", "optax", "ours, transformation"),
    "limits": (),
}
NOTES = {
    "step": "moved bytes: a kernel that only reads and writes the same memory. No step in memory can exceed 1 there. "
    "Warp computes on one core, from a graph that was captured; Dr.Jit in a frozen function, to new arrays.",
    "adam": "Warp's Adam cannot be captured: its graph would hold the number of the step.",
    "training": "20 epochs over the digits, from the same weights, with the same batches, to the same loss; of each "
    "peer the fastest of its forms (threads, kinds of its optimizer).",
    "networks": "seconds for each network, trained as above.",
    "prediction": "",
    "adapters": "PyTorch: the parameters of whole networks. JAX: so many elements, in a call of jit for each step or "
    "in a scan.",
    "limits": "",
}
THREADS = ("one thread", "all threads")  # columns of the limits
LEGEND = "Columns of others: how many times as long as ours they take; above 1, ours is faster."


@dataclass
class Table:
    """A section as text."""

    title: str
    headings: list[str]
    lines: list[list[str]]
    note: str
    missing: list[str]


def tabled(section: str, rows: Sequence[Row], promises: bool = False) -> Table:
    """The table of some rows of a section, with what is promised in brackets."""
    title, _ = SECTIONS[section]
    if section == "limits":
        lines = [[row.case["limit"], *(_rate(row, name) for name in THREADS)] for row in rows]
        return Table(title, ["", *THREADS], lines, "", [])
    cases = [name for name in rows[0].case if name != "dtype"]
    there = [name for name in COLUMNS[section] if any(name in row.ratios for row in rows)]
    rate = ["GB/s"] if "gb_per_s" in rows[0].more else []
    headings = [*cases, "ours", *rate, *there]
    lines = []
    for row in rows:
        shown = [x if isinstance(x, str) else f"{x:,}" for x in (row.case[name] for name in cases)]
        line = [*shown, duration(row.seconds["ours"])]
        line += [f"{row.more['gb_per_s']['ours']:.3g}"] if rate else []
        lines.append(line + [_ratio(row, name, promised(section, row.case) if promises else {}) for name in there])
    missing = dict.fromkeys(f"{name}: {reason}" for row in rows for name, reason in row.missing.items())
    busy = max((row.more["others"] or 0.0 for row in rows), default=0.0)
    note = NOTES[section]
    if busy > 0.1:
        note = (
            f"{note} Other processes kept up to {busy:.2f} cores busy meanwhile: expect figures that are off.".strip()
        )
    return Table(title, headings, lines, note, list(missing))


def _rate(row: Row, threads: str) -> str:
    for unit, words in (("gflops", "GFLOP/s"), ("gb_per_s", "GB/s")):
        if threads in row.more.get(unit, {}):
            return f"{row.more[unit][threads]:,.3g} {words}"
    return ""


def _ratio(row: Row, name: str, promises: Mapping[str, Promise]) -> str:
    if name not in row.ratios:
        return "n/a"
    value = row.ratios[name]
    said = f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}"
    return said if name not in promises else f"{said} [{promises[name].ratio:g}]"


def duration(seconds: float) -> str:
    """A time with its unit, three digits."""
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 999.5:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def show(console: Any, table: Table) -> None:
    """Print a table."""
    import rich.box
    import rich.table
    from rich.text import Text

    look: dict[str, Any] = {"box": rich.box.SIMPLE_HEAD, "padding": 0, "show_edge": False}  # for 80 columns
    view = rich.table.Table(title=table.title, caption=table.note or None, caption_justify="left", **look)
    for heading in table.headings:
        view.add_column(heading, justify="right", vertical="bottom")
    for line in table.lines:
        view.add_row(*map(Text, line))
    console.print(view)
    for text in table.missing:
        console.print(f"  n/a: {text}", soft_wrap=True)


def markdown(table: Table) -> str:
    """The table in Markdown."""
    lines = [
        "| " + " | ".join(table.headings) + " |",
        "|" + "---:|" * len(table.headings),
        *("| " + " | ".join(line) + " |" for line in table.lines),
    ]
    return "\n".join(lines)


def facts(about: Mapping[str, Any]) -> str:
    """The machine and the versions in a line."""
    machine = about["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items() if version is not None)
    return (
        f"{machine['processor']} ({machine['architecture']}, {machine['system']}), {machine['cores']} cores, "
        f"{machine['numba_threads']} threads of numba by {machine['numba_layer']}; {versions}"
    )


def write_json(path: str | Path, results: Mapping[str, Any]) -> None:
    """Write results: `about()` of the machine, and rows by section."""
    content = {
        "schema": SCHEMA,
        **{name: value for name, value in results.items() if name != "sections"},
        "sections": {name: [asdict(row) for row in rows] for name, rows in results["sections"].items()},
    }
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """What `write_json` wrote."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"{path}: not a file of `nagd-numba bench --json` (schema {SCHEMA})")
    content["sections"] = {name: [Row(**row) for row in rows] for name, rows in content["sections"].items()}
    return content
