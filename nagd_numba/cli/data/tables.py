"""Samples in a table of text: its rows and header found, its columns made features and labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from ...validation import choice
from .cells import has_thousands, is_integer, is_not_finite, is_number, shown, to_number
from .header import counts_rows, has_header
from .rows import DELIMITERS, may_be_a_delimiter, read_rows
from .samples import DataError, Samples, checked
from .text import read_text


@dataclass(frozen=True)
class Form:
    """What the user says of a table; what is None is found out."""

    label: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    decimal: str | None = None


@dataclass(frozen=True)
class Table:
    """The rows below the header, all as long as each other, with the lines where they begin."""

    path: Path
    header: list[str] | None
    rows: list[list[str]]
    lines: list[int]

    @property
    def width(self) -> int:
        return len(self.header if self.header is not None else self.rows[0])

    def name(self, column: int) -> str:
        """A column in messages: its name in quotes, or its index."""
        return f"'{shown(self.header[column])}'" if self.header is not None else str(column)

    def cells(self, column: int) -> list[str]:
        return [row[column] for row in self.rows]


def read_table(path: Path, form: Form) -> Samples:
    """The samples of a table; raises `DataError`, and `OSError` where the file cannot be read."""
    if form.decimal is not None:
        choice("--decimal", form.decimal, (".", ","))
    text, encoding = read_text(path)
    rows = read_rows(path, text, _character(path, form.delimiter))
    table, empty = _table(path, rows.cells, rows.lines, form)
    column = _label_column(table, form.label)
    features, dropped = _features(table, column)
    decimal = form.decimal or _decimal(table, features)
    X = np.empty((len(table.rows), len(features)))
    for i, row in enumerate(table.rows):
        try:
            X[i] = [to_number(row[j], decimal) for j in features]
        except ValueError:
            _not_a_number(table, i, features, decimal)
    labels, kind = _labels(table, column, decimal)
    samples = checked(
        X, labels, str(path), where=lambda i, j: f"line {table.lines[i]}, column {table.name(features[j])}"
    )
    notes = [
        f"{len(X)} rows",
        f"{len(features)} feature column{'s' if len(features) != 1 else ''}",
        f"label column {table.name(column)}, {len(samples.classes)} classes ({kind})",
        "a header line" if table.header is not None else "no header line",
        f"separated by {DELIMITERS.get(rows.delimiter, repr(rows.delimiter))}",
        *(["decimal commas"] if decimal == "," else []),
        *([f"in {encoding}"] if encoding != "UTF-8" else []),
        *empty,
        *dropped,
    ]
    return dataclasses.replace(samples, understood=f"{path}: {', '.join(notes)}")


def _character(path: Path, delimiter: str | None) -> str | None:
    """The delimiter that was given, checked."""
    if delimiter in ("tab", "\\t"):
        return "\t"
    if delimiter is not None and not may_be_a_delimiter(delimiter):
        raise DataError(
            f"{path}: --delimiter is {delimiter!r}; one character such as , or ; or | is needed, or the word tab"
        )
    if delimiter is None and path.name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    return delimiter


def _table(path: Path, rows: list[list[str]], lines: list[int], form: Form) -> tuple[Table, list[str]]:
    """Rows of one length, with the header apart, and a note about columns that are nothing but delimiters."""
    width = len(rows[0])
    for line, row in zip(lines, rows, strict=True):
        if len(row) != width and width > 1:
            raise DataError(f"{path}: line {line} has {len(row)} columns, the first line has {width}")
    used = max(j + 1 for row in rows for j, cell in enumerate(row) if cell)
    if min(used, width) < 2:
        raise DataError(
            f"{path}: one column only; features and a label column are needed (--delimiter says what parts them)"
        )
    notes = []
    if used < width:
        notes = [f"{width - used} empty column{'s' if width - used > 1 else ''} at the end dropped"]
        rows = [row[:used] for row in rows]
    if has_header(path, rows, form.label) if form.header is None else form.header:
        return Table(path, rows[0], rows[1:], lines[1:]), notes
    return Table(path, None, rows, lines), notes


def _label_column(table: Table, label: str | None) -> int:
    width, names = table.width, table.header or []
    if label is None:
        return width - 1
    if names.count(label) > 1:
        raise DataError(f"{table.path}: {names.count(label)} columns are named '{shown(label)}'; give --label an index")
    if label in names:
        return names.index(label)
    if is_integer(label):
        if -width <= int(label) < width:
            return int(label) % width
        raise DataError(f"{table.path}: no column {label}; there are {width}, counted from 0 (or from -1, the last)")
    if table.header is None:
        raise DataError(
            f"{table.path}: no column {label!r}: there is no header line; give --label an index, 0 to {width - 1}"
        )
    raise DataError(f"{table.path}: no column {label!r}; there are {', '.join(map(shown, names))}")


def _features(table: Table, label: int) -> tuple[list[int], list[str]]:
    """The columns that are features, and notes about those that are not, or may not be meant."""
    features, notes = [], []
    for j in range(table.width):
        if j == label:
            continue
        cells = table.cells(j)
        nameless = j == 0 and table.header is not None and not table.header[j]
        if nameless and len(set(cells)) == len(cells):
            numbers = "counts the rows" if counts_rows(cells) else "differs in every row"
            notes.append(f"the first column has no name, {numbers} and is dropped")
        elif nameless:
            raise DataError(
                f"{table.path}: the first column has no name and values that repeat; name it if it is a feature, else "
                f"remove it"
            )
        else:
            features.append(j)
            if j == 0 and counts_rows(cells):
                notes.append(f"column {table.name(j)} counts the rows and is a feature")
    if not features:
        raise DataError(f"{table.path}: no column of features is left ({', '.join(notes)})")
    return features, notes


def _decimal(table: Table, features: Sequence[int]) -> str:
    """The comma where cells are numbers with it, and none is one with a point."""
    commas = [row[j] for row in table.rows for j in features if "," in row[j] and is_number(row[j], ",")]
    if not commas or any("." in row[j] and is_number(row[j], ".") for row in table.rows for j in features):
        return "."
    if all(map(has_thousands, commas)):
        raise DataError(
            f"{table.path}: the comma of {shown(commas[0])} may part decimals or thousands; say --decimal , or remove "
            f"the commas from the numbers"
        )
    return ","


def _not_a_number(table: Table, i: int, features: Sequence[int], decimal: str) -> NoReturn:
    bad = next(j for j in features if not (is_number(table.rows[i][j], decimal) or is_not_finite(table.rows[i][j])))
    cell = table.rows[i][bad]
    hints = ["--label names the label column"]
    if i == 0 and table.header is None:
        hints.append("--header says that the first line holds names")
    if is_number(cell, "," if decimal == "." else "."):
        hints.append(f"--decimal {',' if decimal == '.' else '.'} reads such numbers, all of the file")
    what = f"text '{shown(cell)}'" if cell else "an empty cell (a missing value)"
    raise DataError(
        f"{table.path}: {what} in line {table.lines[i]}, column {table.name(bad)}; features are numbers "
        f"({'; '.join(hints)})"
    )


def _labels(table: Table, column: int, decimal: str) -> tuple[np.ndarray, str]:
    """Integers where all labels are in their usual form, text otherwise, and which; raises for quantities."""
    cells, name = table.cells(column), table.name(column)
    if "" in cells:
        raise DataError(f"{table.path}: the label is empty in line {table.lines[cells.index('')]}, column {name}")
    odd = next((cell for cell in cells if not is_integer(cell)), None)
    if odd is None:
        return np.array([int(cell) for cell in cells], dtype=np.int64), "integers"
    numbers = [is_number(cell, decimal) or is_not_finite(cell) for cell in cells]
    digits = [cell.lstrip("+-").isdecimal() for cell in cells]
    if all(numbers) and not all(digits):
        bad = digits.index(False)
        what = "NaN or infinity" if is_not_finite(cells[bad]) else "not an integer"
        raise DataError(
            f"{table.path}: label {shown(cells[bad])} in line {table.lines[bad]}, column {name} is {what}; labels are "
            f"classes (integers or text), not a quantity for regression"
        )
    if all(digit or "_" in cell for digit, cell in zip(digits, cells, strict=True)):
        return np.array(cells), f"text, for {shown(odd)} is no integer in its usual form"
    return np.array(cells), "text"
