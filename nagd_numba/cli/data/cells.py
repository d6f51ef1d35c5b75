"""What a cell of a table is.

Python's `float` and `int` also read `1_000`, Arabic digits and `infinity`, and know no decimal comma; here a number is
what other programs write.
"""

from __future__ import annotations

import re

from ...io.one_line import one_line

_NUMBERS = {
    mark: re.compile(rf"[+-]?(?:[0-9]+(?:{re.escape(mark)}[0-9]*)?|{re.escape(mark)}[0-9]+)(?:[eE][+-]?[0-9]+)?")
    for mark in ".,"
}
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # an int64 holds every one
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE | re.ASCII)
_MISSING = {"", "na", "n/a", "nan", "none", "null", "?", "-"}


def is_number(cell: str, decimal: str = ".") -> bool:
    """A finite number, written with this decimal mark?"""
    return _NUMBERS[decimal].fullmatch(cell) is not None


def looks_like_a_number(cell: str) -> bool:
    """A number with either mark, or NaN or infinity?"""
    return is_number(cell, ".") or is_number(cell, ",") or is_not_finite(cell)


def is_not_finite(cell: str) -> bool:
    """NaN or infinity?"""
    return _NOT_FINITE.fullmatch(cell) is not None


def is_missing(cell: str) -> bool:
    """What programs write for a value that is not there?"""
    return cell.lower() in _MISSING


def is_integer(cell: str) -> bool:
    """An integer in its usual form, which no other has: not `007`, `+7`, `7_0`, `-0`?  At most 18 digits."""
    return _INTEGER.fullmatch(cell) is not None


def has_thousands(cell: str) -> bool:
    """May its commas part thousands, as in `1,234`?"""
    return _THOUSANDS.fullmatch(cell) is not None


def to_number(cell: str, decimal: str) -> float:
    """The value of a number, of NaN and of infinity; raises `ValueError` for other cells."""
    # What `float` reads besides, and the other mark; an expression for each of millions of cells would take its time.
    if "_" in cell or not cell.isascii() or (decimal == "," and "." in cell):
        raise ValueError(cell)
    return float(cell if decimal == "." else cell.replace(",", "."))


def shown(text: str) -> str:
    """Text of a table for a message: its start."""
    return one_line(text, 60) if text else ""
