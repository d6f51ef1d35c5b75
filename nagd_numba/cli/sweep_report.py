"""How a sweep looks: progress, table, heat map, file.  rich and matplotlib are imported where they are used."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..history import History
from ..io.atomic import replacing
from .grid import Cell, Sweep
from .output import percent
from .streams import spelt

# From the lowest to the highest value: light blue to dark blue, told apart by colour-blind readers and in grey as well.
SCALE = ((247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))
TICKS = (20, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9)  # of the bar of colours, in %
MARK = "* "  # of the best cell


def heading(sweep: Sweep) -> str:
    """What is about to be trained, in a line."""
    data, config = sweep.data, sweep.config
    counts = [
        f"{n} {what if n > 1 else one}"
        for n, one, what in (
            (len(config.lrs), "learning rate", "learning rates"),
            (len(config.momenta), "momentum", "momenta"),
            (config.seeds, "seed", "seeds"),
            (config.base.epochs, "epoch", "epochs"),
        )
    ]
    return (
        f"{data.name}: {len(data.X)} training and {len(data.X_validation)} validation rows, "
        f"{len(data.preprocessing.classes)} classes; network {'-'.join(map(str, sweep.model.sizes))}, cpu; "
        f"{' x '.join(counts[:3])}, {counts[3]}"
    )


@contextmanager
def progress(out: Any, sweep: Sweep) -> Iterator[Callable[[int, Sequence[History]], None] | None]:
    """A bar on a terminal, elsewhere nothing."""
    if not out.is_interactive:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    epochs, networks = sweep.config.base.epochs, len(sweep.points)
    with Progress(*columns, console=out, transient=True) as bars:
        task = bars.add_task(
            f"{networks} network{'s' if networks > 1 else ''}", total=epochs, start=False, status="preparing kernels"
        )

        def on_epoch(done: int, histories: Sequence[History]) -> None:
            if done == 0:
                bars.start_task(task)
            bars.update(task, completed=done, status=f"epoch {done}/{epochs}{_reached(histories)}")

        yield on_epoch


def _reached(histories: Sequence[History]) -> str:
    column = "validation_accuracy"
    if not histories or column not in histories[0]:
        return ""
    return f"  best {percent(max(history.last(column) for history in histories))}"


def show(out: Any, sweep: Sweep) -> None:
    """Print the results."""
    view = table(sweep)
    if not out.is_terminal:  # in files and pipes lines may be of any length
        out.width = max(out.width, view.__rich_measure__(out, out.options.update(width=100_000)).maximum)
    print(_title(sweep))
    out.print(view)
    print("\n".join(_notes(sweep)), flush=True)


def table(sweep: Sweep) -> Any:
    """The cells as a table of rich; on a terminal their colours are a heat map."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    view = Table(padding=0)
    view.add_column(Padding("momentum", (0, 1)), justify="right")
    for i, lr in enumerate(sweep.config.lrs):
        view.add_column(Padding(Text(f"{'' if i else 'lr '}{lr:g}", justify="right"), (0, 1)))
    for momentum, row in zip(sweep.config.momenta, sweep.cells, strict=True):
        cells = []
        for cell in row:
            colour = "" if cell.diverged else _style(_place(sweep, cell.accuracy))
            weight = "bold" if cell is sweep.best else "not bold"
            text = Text(spelt("\n".join(_lines(sweep, cell))), justify="right", style=f"{weight} {colour}")
            cells.append(Padding(text, (0, 1), style=colour or "none"))
        view.add_row(Padding(Text(f"{momentum:g}", justify="right"), (0, 1)), *cells)
    return view


def _title(sweep: Sweep) -> str:
    config = sweep.config
    seeds = f", mean of {config.seeds} seeds" if config.seeds > 1 else ""
    epochs = f"{config.base.epochs} epoch{'s' if config.base.epochs > 1 else ''}"
    return f"Validation accuracy in % after {epochs} of {config.optimizer}{seeds}"


def _notes(sweep: Sweep) -> list[str]:
    """What is said below the table."""
    lines = ["±: standard deviation over the seeds."] if sweep.config.seeds > 1 else []
    best, networks = sweep.best, len(sweep.points)
    if any(cell.diverged for row in sweep.cells for cell in row):
        lines.append("Diverged: a loss or the parameters became infinite or NaN.")
    if best is None:
        lines.append(f"Every cell diverged; try an --lr below {min(sweep.config.lrs):g}.")
    else:
        value = " ".join(_lines(sweep, best)).removeprefix(MARK)
        lines.append(f"Best ({MARK.strip()}): lr {best.lr:g}, momentum {best.momentum:g}, {value} %.")
    lines.append(
        f"{networks} network{'s' if networks > 1 else ''} in {sweep.seconds:.2f} s, "
        f"{networks / sweep.seconds:.3g} a second."
    )
    return lines


def _lines(sweep: Sweep, cell: Cell) -> list[str]:
    """What a cell says."""
    if cell.diverged:
        share = f"{cell.diverged} of {len(cell.networks)}"
        return ["diverged", *([share] if len(cell.networks) > 1 else [])]
    first = f"{MARK if cell is sweep.best else ''}{100 * cell.accuracy:.1f}"
    return [first, *([] if math.isnan(cell.deviation) else [f"± {100 * cell.deviation:.1f}"])]


def _limits(sweep: Sweep) -> tuple[float, float]:
    """The lowest and the highest accuracy."""
    values = [cell.accuracy for row in sweep.cells for cell in row if not cell.diverged]
    return min(values, default=0.0), max(values, default=1.0)


def _place(sweep: Sweep, accuracy: float) -> float:
    """On the scale of colours, from 0 for the lowest accuracy to 1 for the highest.

    It goes with the logarithm of the errors, half a row more: 98 % and 99 % are as far apart as 80 % and 90 %.
    """
    low, high = (math.log(1 - x + 0.5 / len(sweep.data.X_validation)) for x in _limits(sweep))
    here = math.log(1 - accuracy + 0.5 / len(sweep.data.X_validation))
    return (low - here) / (low - high) if low > high else 1.0


def _colour(place: float) -> tuple[int, int, int]:
    """Of a place from 0 to 1 on the scale."""
    x = place * (len(SCALE) - 1)
    i = min(int(x), len(SCALE) - 2)
    below, above = list(pairwise(SCALE))[i]
    red, green, blue = (round(a + (b - a) * (x - i)) for a, b in zip(below, above, strict=True))
    return red, green, blue


def _ink(colour: tuple[int, int, int]) -> str:
    red, green, blue = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


def _style(place: float) -> str:
    colour = _colour(place)
    ink = {"black": "#000000", "white": "#ffffff"}[_ink(colour)]
    return f"{ink} on rgb({','.join(map(str, colour))})"


def plot(path: str | Path, sweep: Sweep) -> None:
    """Draw the heat map: learning rates on x, momenta on y, the numbers in the cells."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure  # not pyplot: no window system is asked for
    from matplotlib.patches import Rectangle

    lrs, momenta = sweep.config.lrs, sweep.config.momenta
    figure = Figure(figsize=(2.6 + 0.95 * len(lrs), 1.8 + 0.7 * len(momenta)), layout="constrained")
    axes = figure.subplots()
    colours = LinearSegmentedColormap.from_list("scale", [tuple(c / 255 for c in colour) for colour in SCALE])
    places = [[math.nan if cell.diverged else _place(sweep, cell.accuracy) for cell in row] for row in sweep.cells]
    image = axes.imshow(
        np.array(places), cmap=colours.with_extremes(bad="#dddddd"), origin="lower", aspect="auto", vmin=0, vmax=1
    )
    for y, row in enumerate(sweep.cells):
        for x, cell in enumerate(row):
            ink = "black" if cell.diverged else _ink(_colour(_place(sweep, cell.accuracy)))
            weight = "bold" if cell is sweep.best else "normal"
            text = "\n".join(_lines(sweep, cell)).removeprefix(MARK)
            axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=9, fontweight=weight)
            if cell is sweep.best:
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#d55e00", linewidth=2.5))
    axes.set_xticks(range(len(lrs)), [f"{lr:g}" for lr in lrs])
    axes.set_yticks(range(len(momenta)), [f"{momentum:g}" for momentum in momenta])
    axes.set(xlabel="learning rate", ylabel="momentum")
    axes.set_title(_title(sweep).replace(" after ", "\nafter "), fontsize=10)
    low, high = _limits(sweep)
    ticks = [tick for tick in TICKS if low <= tick / 100 <= high]
    if len(ticks) < 2:
        ticks = [100 * low, 100 * high] if high > low else [100 * high]
    bar = figure.colorbar(image, ax=axes)
    bar.set_ticks([_place(sweep, tick / 100) for tick in ticks], labels=[f"{tick:.4g} %" for tick in ticks])
    with replacing(path) as file:
        figure.savefig(file, format=Path(path).suffix.lower().removeprefix("."), dpi=150)


def write_json(path: str | Path, sweep: Sweep) -> None:
    """Write `sweep.results()`."""
    text = json.dumps(sweep.results(), indent=1, allow_nan=False)
    with replacing(path) as file:
        file.write(text.encode() + b"\n")
