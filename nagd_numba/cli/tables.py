"""Tables on terminals that are too narrow for them: a paragraph for each row.  Imports rich: to be imported in use."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

WIDE = 100_000  # columns


class TableConsole(Console):
    """A console that never cuts words of a table off."""

    def print(self, *objects: Any, **options: Any) -> None:
        for i, x in enumerate(objects):
            if isinstance(x, Table) and self._needs(x) > self.width:
                objects = (*objects[:i], Text(paragraphs(x)), *objects[i + 1 :])
        super().print(*objects, **options)

    def _needs(self, table: Table) -> int:
        return Measurement.get(self, self.options.update(width=WIDE), table).minimum


def paragraphs(table: Table) -> str:
    """The rows of a table, each as the lines `heading: value`."""
    headings = [_words(column.header) for column in table.columns]
    lines = [] if table.title is None else [_words(table.title)]
    for first, *others in zip(*([_words(x) for x in column.cells] for column in table.columns), strict=True):
        lines.append(f"{headings[0]} {first}".strip())
        lines += [f"  {heading}: {value}" for heading, value in zip(headings[1:], others, strict=True)]
    return "\n".join(lines if table.caption is None else [*lines, str(table.caption)])


def _words(cell: Any) -> str:
    """The text of a cell, in one line."""
    cell = getattr(cell, "renderable", cell)  # of a padding
    return " ".join((cell.plain if isinstance(cell, Text) else str(cell)).split())
