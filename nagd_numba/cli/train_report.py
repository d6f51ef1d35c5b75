"""How a comparison looks: progress, the table, the plot.  rich and matplotlib are imported where they are used."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..io.atomic import replacing
from ..optimizers.registry import METHODS
from .comparison import Best, Comparison, Epoch, Result
from .config import Config
from .output import percent, suffix

# Told apart by colour-blind readers as well.
PALETTE = ("#777777", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#b8ac00")
COLOURS = dict(zip(METHODS, itertools.cycle(PALETTE), strict=False))


class Callbacks(NamedTuple):
    """What `Comparison.run` calls."""

    on_epoch: Callable[[Result, Epoch], None]
    on_batch: Callable[[Result, int], None] | None
    close: Callable[[], object] = lambda: None  # by another thread, where `progress` will not be left


@contextmanager
def progress(out: Any, run: Comparison) -> Iterator[Callbacks]:
    """Bars on a terminal, elsewhere a line for each epoch."""
    if out.is_interactive:
        with _bars(out, run) as callbacks:
            yield callbacks
    else:
        yield Callbacks(lambda result, epoch: _line(result, epoch, run.config.epochs), None)


def _line(result: Result, epoch: Epoch, epochs: int) -> None:
    print(
        f"{result.method:8}  epoch {epoch.number:{len(str(epochs))}}/{epochs}  train loss {epoch.train_loss:.4f}  "
        f"validation accuracy {percent(epoch.validation_accuracy)}",
        flush=True,
    )


@contextmanager
def _bars(out: Any, run: Comparison) -> Iterator[Callbacks]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    epochs = run.config.epochs
    columns = (
        TextColumn("{task.description:16}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out) as bars:
        tasks = {
            method: bars.add_task(METHODS[method].label, total=epochs * run.batches, start=False, status="waiting")
            for method in run.config.methods
        }
        first = tasks[run.config.methods[0]]
        bars.update(first, status="preparing kernels")

        def on_batch(result: Result, steps: int) -> None:
            task = tasks[result.method]
            if steps == 1:
                bars.start_task(task)
                bars.update(task, status=f"epoch 1/{epochs}")
            bars.update(task, completed=steps)

        def on_epoch(result: Result, epoch: Epoch) -> None:
            status = f"epoch {epoch.number}/{epochs}  loss {epoch.train_loss:.4f}  {percent(epoch.validation_accuracy)}"
            bars.update(tasks[result.method], status=status)
            if epoch.number == epochs or result.diverged:
                bars.stop_task(tasks[result.method])

        yield Callbacks(on_epoch, on_batch, bars.stop)


def table(results: Sequence[Result], best: Best | None, config: Config) -> Any:
    """The results as a table of rich."""
    from rich.table import Table

    target = f"{config.target:g} %"
    view = Table(caption=_caption(results, best, config), caption_justify="left", caption_style="", title_style="bold")
    view.title = f"{config.epochs} epoch{'s' if config.epochs > 1 else ''}, batches of {config.batch_size}"
    view.add_column("method", no_wrap=True)
    for heading in (
        "lr,\nmomentum",
        "train\nloss",
        "accuracy\nat the end",
        "best\naccuracy",
        f"epochs to\n{target}",
        "seconds",
    ):
        view.add_column(heading, justify="right")
    for result in results:
        if not result.history:
            continue
        last = result.history[-1]
        unfinished = last.number < config.epochs and not result.diverged
        reached = result.epochs_to(config.target)
        view.add_row(
            result.method + (f" ({last.number}/{config.epochs})" if unfinished else ""),
            pair(result.method, config),
            f"diverged,\nepoch {last.number}" if result.diverged else f"{last.train_loss:.4f}",
            percent(last.validation_accuracy),
            percent(result.best_accuracy),
            "-" if reached is None else str(reached),
            f"{result.seconds:.2f}",
        )
    return view


def pair(method: str, config: Config) -> str:
    """The learning rate and momentum of a method, as 0.5, 0.9"""
    return ", ".join(f"{x:g}" for x in config.pair(method) if x is not None)


def _caption(results: Sequence[Result], best: Best | None, config: Config) -> str:
    lines = [
        "Train loss: over all training rows after the last epoch, without dropout. Accuracy: of the validation rows."
    ]
    if best is not None:
        accuracy = percent(best.epoch.validation_accuracy)
        lines.append(f"Best model: {best.method}, epoch {best.epoch.number}, {accuracy}.")
    if any(result.diverged for result in results):
        lines.append("Diverged: the train loss became infinite or NaN; try a smaller --lr.")
    return "\n".join(lines)


def plot(path: str | Path, results: Sequence[Result], config: Config) -> None:
    """Draw train loss and validation accuracy over the epochs."""
    from matplotlib.figure import Figure  # not pyplot: no window system is asked for
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for result in results:
        finite = [epoch for epoch in result.history if math.isfinite(epoch.train_loss)]
        numbers = [epoch.number for epoch in finite]
        style: dict[str, Any] = {
            "label": f"{METHODS[result.method].label}, {pair(result.method, config)}",
            "color": COLOURS[result.method],
            "marker": "o" if len(numbers) <= 60 else "",
            "markersize": 3.5,
            "linestyle": {"momentum": "--"}.get(result.method, "-"),  # it may lie under nag
        }
        left.plot(numbers, [epoch.train_loss for epoch in finite], **style)
        right.plot(numbers, [100 * epoch.validation_accuracy for epoch in finite], **style)
    left.set(title="Train loss", ylabel=f"{config.loss.replace('_', ' ')}, without dropout", yscale="log")
    right.set(title="Validation accuracy", ylabel="%")
    right.axhline(config.target, color="black", linewidth=0.8, linestyle=":", label=f"target {config.target:g} %")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    left.legend(loc="upper right")
    right.legend(loc="lower right")
    figure.suptitle(f"batches of {config.batch_size}")
    with replacing(path) as file:
        figure.savefig(file, format=suffix(path), dpi=150)
