"""The rows of a table of text.

Python's `csv` reads them: it is in the standard library and knows quotes, doubled quotes and quoted line ends; pandas
would be a dependency larger than this package.  `csv.Sniffer` is not used: it takes any character for a delimiter,
letters too, and does not say how sure it is.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .cells import looks_like_a_number
from .samples import DataError

# Where two fit equally well, the first: a comma may be a decimal mark.
DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas"}
SAMPLE, SAMPLE_TEXT = 100, 1 << 20  # rows by which the delimiter is judged, of so many characters
_NO_DELIMITER = r"\w\"'\r\n\0.+-"  # what is in words, quotes and numbers
_SEP = re.compile(rf'[ \t]*"?sep=([^{_NO_DELIMITER}])"?[ \t]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)


@dataclass(frozen=True)
class Rows:
    """The rows that are not blank, cells without the white space around them, and the line where each begins."""

    cells: list[list[str]]
    lines: list[int]
    delimiter: str


def read_rows(path: Path, text: str, delimiter: str | None) -> Rows:
    """Split a text into rows and cells; without a `delimiter` it is found out."""
    blank = re.match(r"(?:[ \t]*(?:\r\n|\r|\n))*", text)
    start = blank.end() if blank is not None else 0
    named = _SEP.match(text, start)  # the first line in which Excel is told the delimiter
    if named is not None:
        start, delimiter = named.end(), delimiter or named[1]
    skipped = len(io.StringIO(text[:start], newline="").readlines())
    delimiter = delimiter or _delimiter(text[start : start + SAMPLE_TEXT])
    cells, lines = [], []
    reader = csv.reader(io.StringIO(text[start:], newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    began = skipped + 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                lines.append(began)
                cells.append([cell.strip() for cell in row])
            began = skipped + reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}: line {began} cannot be read as csv ({error}): a quote is not closed, or text follows it"
        ) from error
    if not cells:
        raise DataError(f"{path}: the file is empty")
    _check_line_ends(path, cells, lines, delimiter)
    return Rows(cells, lines, delimiter)


def may_be_a_delimiter(text: str) -> bool:
    """One character that is in no word, quote or number?"""
    return re.fullmatch(f"[^{_NO_DELIMITER}]", text) is not None


def _check_line_ends(path: Path, cells: list[list[str]], lines: list[int], delimiter: str) -> None:
    """Raise for a cell that goes on in the next line, where two stray quotes may have swallowed what is between.

    A number or a class has no line end; a name of the first line may have one, and then no delimiter.
    """
    for i, row in enumerate(cells):
        for cell in row:
            if ("\n" in cell or "\r" in cell) and (i > 0 or delimiter in cell):
                ends = len(cell.splitlines())
                raise DataError(
                    f"{path}: a quote is opened in line {lines[i]} and closed {ends - 1} line{'s' if ends > 2 else ''} "
                    f"later; no number and no class goes on over a line end"
                )


def _delimiter(text: str) -> str:
    """The candidate that cuts most rows into as many cells as each other, and most cells into numbers."""
    return max(DELIMITERS, key=lambda candidate: _fit(text, candidate))


def _fit(text: str, delimiter: str) -> tuple[float, float, int]:
    rows = list(itertools.islice(_loosely(text, delimiter), SAMPLE))
    (width, count), *_ = Counter(map(len, rows)).most_common(1) or [(0, 0)]
    if width < 2:
        return 0.0, 0.0, 0
    cells = [cell.strip() for row in rows for cell in row]
    alike, numbers = count / len(rows), sum(map(looks_like_a_number, cells)) / len(cells)
    return alike * numbers, alike, width  # a product: one row too short must not decide


def _loosely(text: str, delimiter: str) -> Iterator[list[str]]:
    """The rows that a delimiter would give, quotes that make no sense included."""
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True):
            if any(cell.strip() for cell in row):
                yield row
    except csv.Error:  # a field that is too long: told when the rows are read
        return
