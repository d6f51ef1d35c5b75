"""Does the first row of a table hold names?  The evidence is weighed in one place, and where it is weak, we ask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .cells import is_integer, is_missing, is_number, looks_like_a_number, shown
from .samples import DataError

SAMPLE = 1000  # rows that tell what a column holds
# How a column of labels is called, where the first class of a table without names would hardly be.
LABEL_NAMES = ("category", "class", "classes", "group", "kind", "label", "labels", "species", "target", "type", "y")


def has_header(path: Path, rows: Sequence[Sequence[str]], label: str | None) -> bool:
    """Is the first row a header?  Raises `DataError`, which names the options, where it cannot be told.

    Names are text over numbers, and a class is a label that comes again below:

    ===================================  ========================================  ================================
    the feature cells of the first row   its label                                 the row is
    ===================================  ========================================  ================================
    all text over numbers                anything                                  names; asked if it is one cell
                                                                                   and the label a class
    some text over numbers               a class                                   a row, with bad text
    some text over numbers               anything else                             names
    numbers                              text over numbers                         names
    numbers                              a number over numbers                     a row; if all cells count, names
                                                                                   or asked
    numbers                              a class of text                           a row
    numbers                              anything else                             names if it is called so or the
                                                                                   others count, else asked
    ===================================  ========================================  ================================

    Cells that count are consecutive integers, which pandas writes over columns without names.
    """
    first, *rest = rows
    names = [name for name in first if not looks_like_a_number(name) and not is_missing(name)]
    column = _column(label, len(first))
    if column is None and label in first:
        return True
    if column is None:  # no such column: told by who looks for it
        return len(names) == len(first)
    features = [j for j in range(len(first)) if j != column]
    if first[0] == "" and 0 in features and counts_rows([row[0] for row in rest]):
        return True
    text = [j for j in features if first[j] in names and _are_numbers(rest, j)]
    numbers = [j for j in features if is_number(first[j], ".") or is_number(first[j], ",")]
    cell = first[column]
    again = any(row[column] == cell for row in rest if column < len(row))
    if text and not numbers:
        if again and len(features) == 1 and cell in names:
            raise _unclear(path, first, f"{shown(cell)!r} is a label further down")
        return True
    if text:
        return not again
    if not rest or not numbers:
        return len(names) == len(first)
    if again and cell in names:
        return False
    if all(looks_like_a_number(row[column]) or is_missing(row[column]) for row in rest if column < len(row)):
        if cell in names:
            return True
        counting = _counts([first[j] for j in (*features, column) if first[j]])
        return counting and _counting_is_a_header(path, first, rest, features, again)
    if again:
        return False
    if cell.lower() in LABEL_NAMES or _counts([first[j] for j in features if first[j]]):
        return True
    raise _unclear(path, first, f"no other row has the label {shown(cell)!r}")


def _counting_is_a_header(
    path: Path, first: Sequence[str], rest: Sequence[Sequence[str]], features: Sequence[int], again: bool
) -> bool:
    """Names, if all features below are fractions and the label is no class; a row, if neither is so and it is likely.

    By chance a row `0, 1` is common, and one that counts on from 0 is not.
    """
    fractions = all(not is_integer(row[j]) for row in rest[:SAMPLE] for j in features if j < len(row) and first[j])
    if fractions == again or (again and len(first) > 2 and first[0] == "0"):
        raise _unclear(path, first, "it counts, as pandas does over columns without names")
    return fractions


def counts_rows(cells: Sequence[str]) -> bool:
    """0, 1, 2, ... or 1, 2, 3, ..., as pandas and R number rows?"""
    return cells[:1] in (["0"], ["1"]) and (len(cells) == 1 or _counts(cells))


def _counts(cells: Sequence[str]) -> bool:
    """Consecutive integers, two or more?"""
    if len(cells) < 2 or not all(map(is_integer, cells)):
        return False
    start = int(cells[0])
    return [int(cell) for cell in cells] == list(range(start, start + len(cells)))


def _are_numbers(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Are most cells at the top of a column numbers?  (Not all, where one is wrong, which is told later.)"""
    cells = [row[column] for row in rows[:SAMPLE] if column < len(row) and not is_missing(row[column])]
    return 2 * sum(map(looks_like_a_number, cells)) > len(cells)


def _column(label: str | None, width: int) -> int | None:
    if label is None:
        return width - 1
    return int(label) % width if is_integer(label) and -width <= int(label) < width else None


def _unclear(path: Path, first: Sequence[str], why: str) -> DataError:
    cells = ", ".join(map(shown, first[:4])) + (", ..." if len(first) > 4 else "")
    return DataError(
        f"{path}: the first line ({cells}) may hold names or be a row, for {why}; say --header or --no-header"
    )
