"""`nagd-numba bench`: measure section by section, and show each when it is done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from . import machine, report
from .contenders import Missing
from .sections import SECTIONS, Row


def chosen(names: Sequence[str] | None) -> tuple[str, ...]:
    """Checked names of sections; None for all."""
    unknown = [name for name in names or () if name not in SECTIONS]
    if unknown or (names is not None and not names):
        raise ValueError(f"--only {','.join(names or ())}: some of {', '.join(SECTIONS)} are needed")
    return tuple(SECTIONS) if names is None else tuple(name for name in SECTIONS if name in names)


def measure(console: Any, only: Sequence[str], budget: float) -> dict[str, Any]:
    """Measure sections and show them, beginning no row after `budget` seconds; returns what `write_json` takes."""
    start = time.monotonic()
    about = machine.about()
    console.print(report.facts(about), soft_wrap=True)
    skipped: dict[str, str] = {name: "left out by --only" for name in SECTIONS if name not in only}
    results: dict[str, Any] = {**about, "skipped": skipped, "sections": {}}
    for name in only:
        title, jobs = SECTIONS[name]
        rows = []
        for case, run in jobs():
            row = Row(case)
            used = time.monotonic() - start
            if used > budget:
                skipped[f"{name}: {row}"] = f"{used:.0f} s were used up; run --only {name}, or with more --seconds"
                continue
            if console.is_terminal:  # no spinner: its thread would be measured too
                console.print(f"{title}: {row}".ljust(console.width - 1), end="\r")
            try:
                run(row)
            except Missing as error:
                skipped[f"{name}: {row}"] = str(error)
                continue
            rows.append(row)
        if rows:
            results["sections"][name] = rows
            report.show(console, report.tabled(name, rows))
    console.print(report.LEGEND, soft_wrap=True)
    for what, why in skipped.items():
        console.print(f"skipped: {what}: {why}", soft_wrap=True)
    results["seconds"] = round(time.monotonic() - start, 1)
    console.print(f"{results['seconds']:.0f} s in all; nothing was measured on a GPU.")
    return results
