"""What `benchmarks.gpu` found out: figures with their units, tables of them, and the file that keeps them."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nagd_numba.io.atomic import replacing

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("numba", "numba-cuda", "llvmlite", "numpy", "cuda-core", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink"),
    *("nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink-cu12", "pytest", "pytest-xdist", "pytest-timeout", "hypothesis"),
    *("torch", "cupy", "cupy-cuda12x", "cupy-cuda13x", "jax", "jaxlib"),
)
WIDTH = 150  # of tables in a file or a pipe


class Unusable(Exception):
    """A peer cannot be used here; the message says why."""


@dataclass
class Row:
    """The figures of one case: times, and how they relate to ours."""

    case: dict[str, Any]
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # of what has no figure
    problems: list[str] = field(default_factory=list)  # of our own

    def put(self, name: str, value: float, unit: str, **more: Any) -> None:
        """`more`: `ratio`, that of this time to ours; `target`, what we aim at; whatever else there is to tell."""
        self.figures[name] = {"value": value, "unit": unit, **{k: v for k, v in more.items() if v is not None}}

    def failed(self, name: str, error: BaseException) -> None:
        """Record why a contender has no figure; failures of ours are problems."""
        if isinstance(error, Unusable):
            self.reasons[name] = f"n/a: {error}"
            return
        self.reasons[name] = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
        if name.startswith("ours"):
            self.problems.append(f"{self}: {name}: " + "".join(traceback.format_exception(error)))

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.case.items())

    def cell(self, name: str) -> str:
        figure = self.figures.get(name)
        if figure is None:
            return "n/a" if name in self.reasons else ""
        target = f" [{figure['target']:g}]" if "target" in figure else ""
        return said(figure.get("ratio", figure["value"])) + target


def said(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class Report:
    """Everything so far, in a file that is replaced whole, and how much time is left."""

    def __init__(self, path: Path, budget: float, about: dict[str, Any]) -> None:
        self.path, self.budget, self.start = path, budget, time.monotonic()
        self.problems: list[str] = []
        self.data = {**about, "budget_s": budget, "complete": False, "sections": {}, "skipped": {}, "missing": {}}
        self.data["problems"] = self.problems

    def left(self) -> float:
        """Seconds."""
        return self.budget - (time.monotonic() - self.start)

    def spent(self, kept: float = 0.0) -> str | None:
        """Why nothing more may start, or None; so many seconds are for what comes later."""
        if self.left() > kept:
            return None
        rest = f", but for {kept:g} s for the tests" if kept else ""
        return f"the budget of {self.budget:g} s was used up after {self.budget - self.left():.0f} s{rest}"

    def missing(self, what: str, cost: str) -> None:
        """Something is not there, and this is what it costs."""
        costs = self.data["missing"].setdefault(what, [])
        if cost not in costs:
            costs.append(cost)

    def problem(self, text: str) -> None:
        self.problems.append(text)
        print(f"\n*** OUR OWN FAILURE ***\n{text}\n", file=sys.stderr, flush=True)

    def skip(self, what: str, reason: str) -> None:
        self.data["skipped"][what] = reason
        print(f"skipped: {what}: {reason}", flush=True)

    def show_missing(self) -> None:
        for what, costs in self.data["missing"].items():
            print(f"missing: {what}; without it: {'; '.join(costs)}", flush=True)

    def section(self, name: str, title: str, rows: Sequence[Row], seconds: float) -> None:
        kept = [{"case": row.case, "figures": row.figures, "not_measured": row.reasons} for row in rows]
        self.data["sections"][name] = {"title": title, "seconds": round(seconds, 1), "rows": kept}
        self.save()

    def save(self) -> None:
        self.data["seconds"] = round(time.monotonic() - self.start, 1)
        with replacing(self.path) as file:
            file.write(json.dumps(self.data, indent=1, default=str).encode() + b"\n")


def show(title: str, rows: Sequence[Row], note: str = "") -> None:
    """A table of the rows, then the reasons of what is missing in it."""
    cases = list(dict.fromkeys(name for row in rows for name in row.case))
    names = list(dict.fromkeys(name for row in rows for name in (*row.figures, *row.reasons)))
    headings = [*cases, *(_heading(name, rows) for name in names)]
    cells = [[*(str(row.case.get(case, "")) for case in cases), *map(row.cell, names)] for row in rows]
    try:
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title, caption=note or None, caption_justify="left")
        for heading in headings:
            table.add_column(heading, justify="right")
        for texts in cells:
            table.add_row(*(cell.replace("[", "\\[") for cell in texts))
        Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    except ImportError:
        plain = [heading.replace("\n", " ") for heading in headings]
        for line in (title, *("; ".join(map(" ".join, zip(plain, texts, strict=True))) for texts in cells), note):
            print(line)
    missing: dict[str, list[str]] = {}
    for row in rows:
        for name, reason in row.reasons.items():
            missing.setdefault(f"{name}: {reason}", []).append(str(row))
    for text, where in missing.items():
        print(f"  {text}" + ("" if len(where) == len(rows) else f" ({'; '.join(where)})"))
    sys.stdout.flush()


def _heading(name: str, rows: Sequence[Row]) -> str:
    figure = next((row.figures[name] for row in rows if name in row.figures), None)
    return name if figure is None else f"{name}\n({'x ours' if 'ratio' in figure else figure['unit']})"


def about() -> dict[str, Any]:
    """The machine and the software."""
    versions = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    return {
        "benchmark": "python -m benchmarks.gpu",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "uncommitted_changes": bool(_output("git", "-C", str(ROOT), "status", "--porcelain", "-uno")),
        "platform": platform.platform(),
        "device": device(),
        "versions": versions,
    }


def device() -> dict[str, Any]:
    """Device 0; what cannot be found out says why."""

    def driver_cuda() -> str:
        from cuda.bindings import driver

        _, version = driver.cuDriverGetVersion()
        return f"{version // 1000}.{version % 1000 // 10}"

    questions: dict[str, Callable[[], Any]] = {
        "name": lambda: str(_device().name),
        "capability": lambda: ".".join(str(int(x)) for x in _device().compute_capability),
        "multiprocessors": lambda: int(_device().properties.multiprocessor_count),
        "l2_bytes": lambda: int(_device().properties.l2_cache_size),
        "memory_bytes": lambda: memory()[1],
        "driver": lambda: _output("nvidia-smi", "-i", "0", "--query-gpu=driver_version", "--format=csv,noheader"),
        "driver_cuda": driver_cuda,
    }
    told = {}
    for question, answer in questions.items():
        try:
            told[question] = answer()
        except Exception as error:  # no figure depends on it
            told[question] = f"unknown ({type(error).__name__})"
    return told


def _device() -> Any:
    from cuda.core import Device

    return Device(0)


def memory() -> tuple[int | None, int | None]:
    """Free and total bytes of device 0, or None where the driver does not tell."""
    try:
        from cuda.bindings import driver

        _device().set_current()
        status, free, total = driver.cuMemGetInfo()
        return (int(free), int(total)) if status == driver.CUresult.CUDA_SUCCESS else (None, None)
    except Exception:
        return None, None


def default_path(about: dict[str, Any], suffix: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", about["device"]["name"].lower()).strip("-")
    return ROOT / "benchmarks" / "results" / f"{slug or 'unknown'}-{about['date'][:10]}{suffix}.json"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
