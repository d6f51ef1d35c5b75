"""The progress bar of a training, and what PyTorch is told of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from .. import validation
from ..history import History


@contextlib.contextmanager
def telling(*written: Any) -> Iterator[None]:
    """Afterwards, whatever happens, torch knows that these tensors were written."""
    try:
        yield
    finally:
        validation.tell_torch(*(x for x in written if x is not None))


class ProgressBar:
    """A progress bar of rich, or nothing."""

    def __init__(self, shown: bool, steps: int, epochs: int) -> None:
        self.shown, self.total, self.epochs = shown, steps, epochs
        self.done = 0

    def __enter__(self) -> ProgressBar:
        if self.shown:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[status]}"))
            self.bars = Progress(*columns, TimeRemainingColumn())
            self.bars.start()
            self.task = self.bars.add_task("training", total=max(1, self.total), status="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown:
            self.bars.stop()

    @property
    def steps(self) -> Callable[[int], None] | None:
        """What is told of the steps done in an epoch."""
        return self._steps if self.shown else None

    def _steps(self, in_epoch: int) -> None:
        self.bars.update(self.task, completed=self.done + in_epoch)
        self.last = in_epoch

    def epoch(self, history: History) -> None:
        if self.shown:
            self.done += self.last
            shown = "  ".join(f"{name} {history.last(name):.4g}" for name in history.to_dict() if "loss" in name)
            self.bars.update(self.task, status=f"epoch {history.epochs}/{self.epochs}  {shown}")
