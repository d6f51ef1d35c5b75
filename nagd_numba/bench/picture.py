"""Two panels for print: the bandwidth of a step over n, and the roofline of steps and of training.

Contenders differ by marker and line as well as by colour (Okabe and Ito's), so that a grey print tells them apart.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..io.atomic import replacing
from .memory import STEP_BYTES, STEP_FLOP


class Style(NamedTuple):
    """How a contender is drawn, everywhere."""

    colour: str
    marker: str
    line: Any = "-"


STYLES = {  # in the legends' order
    "ours": Style("#d55e00", "o"),
    "NumPy": Style("#0072b2", "s", "--"),
    "numexpr": Style("#56b4e9", "v", ":"),
    "PyTorch": Style("#009e73", "^"),
    "JAX": Style("#cc79a7", "D", "--"),
    "Warp": Style("#806000", "P", "-."),
    "Dr.Jit": Style("#000000", "X", ":"),
    "scikit-learn": Style("#999999", "*"),
}
FORMS = {
    "torch fused": "PyTorch",
    "torch": "PyTorch",
    "optax jit": "JAX",
    "Warp graph": "Warp",
    "Dr.Jit frozen": "Dr.Jit",
}
TEXT: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "legend.fontsize": 7.5,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}
RULE = "nesterov"


def plot(path: str | Path, results: dict[str, Any]) -> None:
    """Draw the file that `path` names, of the kind that its suffix says: .png, .pdf, .svg."""
    from matplotlib import rc_context

    with rc_context(TEXT), replacing(path) as file:
        drawn(results).savefig(file, format=Path(path).suffix.lower().removeprefix("."), dpi=200)


def drawn(results: dict[str, Any]) -> Any:
    """The figure."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot: no window system is asked for

    sections = results["sections"]
    with rc_context(TEXT):
        figure = Figure(figsize=(7.2, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        _bandwidth(left, sections)
        _roofline(right, sections)
        for axes in (left, right):
            axes.grid(which="major", color="#e5e5e5", lw=0.5)
            axes.set_axisbelow(True)
            if axes.get_legend_handles_labels()[1]:
                axes.legend(
                    loc="upper center",
                    bbox_to_anchor=(0.5, -0.15),
                    ncols=3,
                    frameon=False,
                    columnspacing=1.0,
                    handlelength=2.2,
                )
            else:
                axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        figure.supxlabel(_caption(results), x=0.01, ha="left", fontsize=7, color="#333333")
    return figure


def _caption(results: dict[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    named = [
        f"{name} {versions[name]}"
        for name in versions
        if versions[name] and name not in ("python", "scipy", "llvmlite")
    ]
    text = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['numba_threads']} threads; "
        f"{results['date'][:10]}; {', '.join(named)}. float32, medians. PyTorch: fused steps, eager training; "
        "JAX: jit; Warp: a captured graph, on one core; Dr.Jit: a frozen function. Limits: the same bytes moved "
        "without arithmetic; multiply-adds in registers."
    )
    return "\n".join(textwrap.wrap(text, 140, break_on_hyphens=False))


def _named(figures: dict[str, float]) -> dict[str, float]:
    """By the names of the legends, in their order; of `torch` the fused form where there is one."""
    found = {FORMS.get(name, name): figures[name] for name in sorted(figures, key="torch fused".__eq__)}
    return {name: found[name] for name in STYLES if name in found}


def _bandwidth(axes: Any, sections: dict[str, Any]) -> None:
    rows = sections.get("step", [])
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="elements $n$",
        ylabel=f"bytes moved ({4 * STEP_BYTES[RULE]} for each element), GB/s",
        title="(a) A step of Nesterov's method",
    )
    if not rows:
        return
    sizes = [row.case["n"] for row in rows]
    limit = [row.more["gb_per_s"].get("moved bytes", np.nan) for row in rows]
    axes.plot(sizes, limit, color="#555555", lw=1, ls=(0, (1, 1)), label="limit: bytes alone")
    axes.fill_between(sizes, limit, 10 * np.nanmax(limit), color="#eeeeee", lw=0)
    rates = [_named(row.more["gb_per_s"]) for row in rows]
    for name, style in STYLES.items():
        values = [rate.get(name, np.nan) for rate in rates]
        if not np.all(np.isnan(values)):
            axes.plot(sizes, values, label=name, ls=style.line, **_marks(name))
    lowest = min(min(rate.values()) for rate in rates)
    axes.set_ylim(lowest / 2, 2.5 * np.nanmax(limit))


def _marks(name: str) -> dict[str, Any]:
    style, ours = STYLES[name], name == "ours"
    return {
        "color": style.colour,
        "marker": style.marker,
        "ms": 7.5 if ours else 4.5,
        "mfc": style.colour if ours else "white",
        "mew": 1.0,
        "lw": 2.0 if ours else 1.0,
        "zorder": 3 if ours else 4,  # smaller ones stay visible on it
    }


def _roofline(axes: Any, sections: dict[str, Any]) -> None:
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="operations per byte",
        ylabel="GFLOP/s",
        title="(b) Roofline: steps, and training (batch×hidden)",
    )
    points: list[tuple[str, float, dict[str, float]]] = []  # a case, its operations per byte, GFLOP/s of contenders
    for section, rule in (("step", "nesterov"), ("adam", "adam")):
        rows, at = sections.get(section, []), STEP_FLOP[rule] / (4 * STEP_BYTES[rule])
        for row in rows[-1:]:
            name = f"{'step' if rule == 'nesterov' else 'Adam'}, n = {_power(row.case['n'])}"
            points.append((name, at, {each: at * rate for each, rate in row.more["gb_per_s"].items()}))
    for row in sections.get("training", []):
        flop = row.more["flop"]
        rates = {name: flop / seconds / 1e9 for name, seconds in row.seconds.items()}
        points.append((f"{row.case['batch']}×{row.case['hidden']}", flop / row.more["bytes"], rates))
    if not points:
        return
    for k, (case, at, figures) in enumerate(points):
        rates = _named(figures)
        low = min(rates.values())
        axes.plot([at, at], [low, max(rates.values())], color="#bbbbbb", lw=0.8, zorder=1)
        for name, value in rates.items():
            axes.plot(at, value, ls="", **_marks(name))
        axes.annotate(  # neighbours have nearly the same operations per byte: one to the left, one to the right
            case,
            (at, low),
            xytext=(3 if k % 2 else -3, -7),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="top",
            fontsize=7,
        )
    shown = {name for _, _, figures in points for name in _named(figures)}
    for name in STYLES:  # each once
        if name in shown:
            axes.plot([], [], ls="", label=name, **_marks(name))
    _roofs(axes, sections, [at for _, at, _ in points], [rate for _, _, x in points for rate in _named(x).values()])


def _power(n: int) -> str:
    exponent = len(str(n)) - 1
    return f"$10^{exponent}$" if n == 10**exponent else f"{n:,}"


def _roofs(axes: Any, sections: dict[str, Any], places: list[float], rates: list[float]) -> None:
    """The lines that no program can exceed, each named where it is."""
    limits = {row.case["limit"].split(",")[0].split(" in ")[0]: row.more for row in sections.get("limits", [])}
    x = np.geomspace(min(places) / 2.5, max(3 * max(places), 100.0), 200)
    axes.set_xlim(x[0], x[-1])
    peak = limits["multiply-adds"]["gflops"]["all threads"] if "multiply-adds" in limits else np.inf
    slopes = {}
    if "bytes of a step" in limits:
        slopes["memory"] = limits["bytes of a step"]["gb_per_s"]["all threads"]
    moved = [row.more["gb_per_s"].get("moved bytes", 0.0) for row in sections.get("step", [])]
    if any(moved):
        slopes["caches"] = max(moved)
    top = max([*rates, *([peak] if np.isfinite(peak) else []), *(0.5 * rate for rate in slopes.values())])
    axes.set_ylim(min(rates) / 25, 4 * top)  # room for the names of cases, and of the limit
    for name, slope in slopes.items():
        axes.plot(
            x, np.minimum(slope * x, peak), color="#222222", lw=1.2, ls="-" if name == "memory" else "--", zorder=2
        )
        place, above = x[0] * 1.15, 1.15 * slope  # a line beside it
        axes.text(
            place,
            above * place,
            f"{name}: {slope:.3g} GB/s",
            rotation=float(np.degrees(np.arctan(above))),  # in the data's units
            rotation_mode="anchor",
            transform_rotates_text=True,
            fontsize=7,
        )
    if np.isfinite(peak):
        axes.annotate(
            f"multiply-adds in registers: {peak:,.0f} GFLOP/s",
            (x[-1], peak),
            xytext=(-2, 2),
            textcoords="offset points",
            ha="right",
            fontsize=7,
        )
    if "matrix product" in limits:
        rate = limits["matrix product"]["gflops"]["all threads"]
        axes.axhline(rate, color="#777777", lw=1, ls=":", zorder=1, label="NumPy's BLAS")
