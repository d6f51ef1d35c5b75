"""Rooflines: the step against what memory moves, and training against what the processor multiplies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..io.atomic import replacing
from .memory import STEP_BYTES, STEP_FLOP

COLOURS = {
    "ours": "#d55e00",
    "NumPy": "#0072b2",
    "numexpr": "#56b4e9",
    "torch": "#999999",
    "torch foreach": "#777777",
    "torch fused": "#009e73",
    "optax jit": "#cc79a7",
    "JAX": "#cc79a7",
    "scikit-learn": "#f0b400",
}


def plot(path: str | Path, results: dict[str, Any]) -> None:
    """Left: the bandwidth of a step over n, under the kernel that only moves the bytes.  Right: the roofline."""
    from matplotlib.figure import Figure  # not pyplot: no window system is asked for

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    sections = results["sections"]
    rows = sections.get("step", [])
    if rows:
        _bandwidth(left, rows)
    else:
        left.text(0.5, 0.5, "not measured", ha="center", transform=left.transAxes)
    _roofline(right, sections)
    machine = results["machine"]
    figure.suptitle(f"{machine['processor']}, {machine['cores']} cores; {results['date'][:10]}", fontsize=10)
    with replacing(path) as file:
        figure.savefig(file, format=Path(path).suffix.lower().removeprefix("."), dpi=150)


def _bandwidth(axes: Any, rows: list[Any]) -> None:
    sizes = [row.case["n"] for row in rows]
    rates = {name: [row.more["gb_per_s"].get(name, np.nan) for row in rows] for name in rows[0].more["gb_per_s"]}
    axes.fill_between(sizes, rates["moved bytes"], color="#dddddd", label="only moving the bytes")
    for name, values in rates.items():
        if name in COLOURS:
            axes.plot(sizes, values, marker="o", color=COLOURS[name], label=name, lw=2.5 if name == "ours" else 1.2)
    axes.set(xscale="log", yscale="log", xlabel="n", ylabel="GB/s", title="a step: 20 bytes per float32 element")
    axes.legend(fontsize=8)


def _roofline(axes: Any, sections: dict[str, Any]) -> None:
    step, training, limits = (sections.get(name, []) for name in ("step", "training", "limits"))
    intensity = STEP_FLOP / (4 * STEP_BYTES)
    x = np.geomspace(intensity / 3, 300, 100)
    peak = limits[0].more["gflops"] if limits else np.inf
    for name, row in (("memory", step[-1]), ("cache", max(step, key=_moved))) if step else ():
        axes.plot(x, np.minimum(_moved(row) * x, peak), color="#444444" if name == "memory" else "#aaaaaa", label=name)
    for row in step:
        for name, rate in row.more["gb_per_s"].items():
            if name in COLOURS:
                size = 45 if name == "ours" else 12
                axes.scatter(
                    intensity, rate * intensity, s=size, color=COLOURS[name], zorder=3 if name == "ours" else 2
                )
    for row in training:
        at = row.more["flop"] / row.more["bytes"]
        for name, seconds in row.seconds.items():
            size = 45 if name == "ours" else 12
            axes.scatter(at, row.more["flop"] / seconds / 1e9, s=size, color=COLOURS[name], zorder=3)
        axes.annotate(
            f"{row.case['batch']}×{row.case['hidden']}",
            (at, row.more["flop"] / row.seconds["ours"] / 1e9),
            textcoords="offset points",
            xytext=(6, 4),
            fontsize=8,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="operations per byte",
        ylabel="GFLOP/s",
        title="steps (left) and training steps, batch×hidden; lines: bandwidth, BLAS",
    )
    if step:
        axes.legend(fontsize=8)


def _moved(row: Any) -> float:
    return row.more["gb_per_s"]["moved bytes"]
