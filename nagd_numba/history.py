"""What training went through: one value for each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class History:
    """The course of a training: `history["loss"]` is an array with one value for each epoch.

    Columns: `loss` (mean over the batches as they passed, with dropout and penalty), `lr`, `momentum` (at the epoch's
    last update), the metrics asked for, and with validation data `validation_loss` (without dropout and penalty) and
    `validation_` before each metric.  With `sample_weight` losses and metrics are weighted means.
    `fit_many` returns one History for each network.

    Attributes
    ----------
    epochs : int
        How many epochs have ended.
    stopped : str or None
        Why training ended before the last epoch, or None.
    seconds : float
        Wall time.

    Examples
    --------
    >>> history = History()
    >>> history.append({"loss": 2.0})
    >>> history.append({"loss": 1.0})
    >>> history["loss"]
    array([2., 1.])
    >>> history
    History(2 epochs: loss 1)
    """

    def __init__(self) -> None:
        self._columns: dict[str, list[float]] = {}
        self.epochs = 0
        self.stopped: str | None = None
        self.seconds = 0.0

    def append(self, values: dict[str, float]) -> None:
        """Add an epoch; every epoch has the same columns."""
        columns = self._columns
        if values.keys() != columns.keys():
            if self.epochs:
                raise ValueError(f"this history has the columns {', '.join(columns)}, the epoch {', '.join(values)}")
            self._columns = columns = {name: [] for name in values}
        for name, value in values.items():
            columns[name].append(float(value))
        self.epochs += 1

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._columns:
            raise KeyError(f"{name!r}; there is {', '.join(map(repr, self._columns)) or 'nothing yet'}")
        return np.array(self._columns[name])

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return self.epochs

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self._columns.items())
        why = f", stopped: {self.stopped}" if self.stopped else ""
        return f"History({self.epochs} epoch{'s' if self.epochs != 1 else ''}{': ' if last else ''}{last}{why})"

    def last(self, name: str) -> float:
        """The value of the last epoch."""
        return self._columns[name][-1] if name in self._columns else self[name][-1]

    def values(self, name: str) -> Sequence[float]:
        """The values so far, not copied: they grow with the history, and are not to be changed."""
        return self._columns.get(name, ())

    def to_dict(self) -> dict[str, np.ndarray]:
        """The columns by name, as arrays (for `pandas.DataFrame(history.to_dict())`, for example)."""
        return {name: np.array(values) for name, values in self._columns.items()}

    @classmethod
    def from_dict(cls, columns: dict[str, Any]) -> History:
        """The history with these columns: what `to_dict` gave.

        >>> History.from_dict({"loss": [2.0, 1.0]}).epochs
        2
        """
        history = cls()
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"the columns of a history have one length; these have {sorted(lengths)}")
        history._columns = {name: [float(value) for value in values] for name, values in columns.items()}
        history.epochs = lengths.pop() if lengths else 0
        return history

    def plot(self, target: Any = None) -> Any:
        """Draw the losses (and accuracies) over the epochs with matplotlib.

        `target` is a file name (`.png`, `.svg`, `.pdf`, ...), or Axes to draw the losses on, or None.  Returns the
        Figure.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        shares = [name for name in self._columns if name.endswith("accuracy")]
        if target is None or isinstance(target, str | Path):
            figure = Figure(figsize=(9.6 if shares else 5.6, 4), layout="constrained")
            axes = figure.subplots(1, 2 if shares else 1, squeeze=False)[0]
        else:
            figure, axes = target.figure, [target]
        epochs = np.arange(1, self.epochs + 1)
        groups = [[name for name in self._columns if name.endswith("loss")], shares]
        for ax, names in zip(axes, groups, strict=False):
            for name in names:
                ax.plot(
                    epochs, self[name], label=name.replace("_", " "), marker="o" if self.epochs <= 60 else "", ms=3.5
                )
            ax.set_xlabel("epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.grid(alpha=0.3)
            if names:
                ax.legend()
        if all(value > 0 for name in groups[0] for value in self._columns[name]):
            axes[0].set_yscale("log")
        if isinstance(target, str | Path):
            from .io.atomic import replacing

            with replacing(target) as file:
                figure.savefig(file, format=Path(target).suffix.lower().removeprefix(".") or "png", dpi=150)
        return figure
