"""Standard output and standard error as they are found: with few characters, closed, full, or cut off by their reader.

`usable` is around everything that the commands print.  In it

- a character that the encoding of a stream lacks is spelt out instead of an exception: `±` as `+-` in ASCII, and what
  has no such spelling by its number;
- a stream that was closed before the start takes everything and keeps nothing;
- what is held back is written at the end, so that a full disk is found out while it can still be told.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any

SPELT = {"±": "+-", "×": "x", "…": "...", "–": "-", "—": "-", "’": "'", "“": '"', "”": '"'}
ERRORS = "nagd_numba.spelt"


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SPELT.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error(ERRORS, _spell)


def spelt(text: str) -> str:
    """A text as standard output will show it: for what is laid out in columns, whose width must be known before."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, ERRORS).decode(encoding)


@contextlib.contextmanager
def usable() -> Iterator[None]:
    """In this block standard output and standard error take any text."""
    before = sys.stdout, sys.stderr
    errors = [getattr(stream, "errors", None) for stream in before]
    with contextlib.ExitStack() as opened:
        sys.stdout, sys.stderr = (x or opened.enter_context(open(os.devnull, "w")) for x in before)
        for stream in before:
            _reconfigure(stream, ERRORS)
        try:
            yield
            sys.stdout.flush()
        finally:
            sys.stdout, sys.stderr = before
            for stream, name in zip(before, errors, strict=True):
                _reconfigure(stream, name)


def _reconfigure(stream: IO[str] | None, errors: str | None) -> None:
    change: Any = getattr(stream, "reconfigure", None)  # none of a test's that holds what is printed
    if change is not None and errors is not None:
        with contextlib.suppress(OSError, ValueError):  # it flushes, to a reader that is gone
            change(errors=errors)


def abandon(stream: IO[str] | None) -> None:
    """Write no more to a stream whose reader has gone or whose disk is full, and do not fail at exit either."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
