"""The text of a file, out of gzip and of the encodings in which tables are written."""

from __future__ import annotations

import codecs
import gzip
import os
import zlib
from pathlib import Path

from ...io.archive import most_unpacked
from ...io.regular import opened
from .samples import DataError

# Those of four bytes first: they begin with those of two.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_ALWAYS = 4 << 20  # bytes that a file may unpack to, however small: cells take many times their text


def read_text(path: Path) -> tuple[str, str]:
    """The text of a file, and the name of its encoding; line ends stay as they are."""
    content = _bytes(path)
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None) or _without_mark(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        place = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: not a text file in {_name(encoding)} ({error.reason} at byte {error.start}, line {place}); save "
            f"it as UTF-8"
        ) from error
    if "\0" in text:
        place = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}: line {place} holds a NUL character, which no text has; save the table as UTF-8")
    return text, _name(encoding)


def _bytes(path: Path) -> bytes:
    with opened(path) as file:
        if path.suffix.lower() != ".gz":
            content = file.read()
            if content.startswith(_GZIP):
                raise DataError(f"{path}: it is compressed by gzip; name it {path.name}.gz")
            return content
        most, parts, length = most_unpacked(os.fstat(file.fileno()).st_size, _ALWAYS), [], 0
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                while length <= most and (part := unpacked.read(_CHUNK)):
                    parts.append(part)
                    length += len(part)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path}: not a gzip file, or only a part of one ({error})") from error
        if length > most:
            raise DataError(
                f"{path}: it unpacks to more than {most} bytes, over a hundred times its own; if it is meant so, give "
                f"the file unpacked (gunzip {path.name})"
            )
        return b"".join(parts)


def _without_mark(content: bytes) -> str:
    """UTF-16 where every second byte is mostly zero, as it is for digits and delimiters; else UTF-8."""
    first, second = content[::2].count(0), content[1::2].count(0)
    half = len(content) // 4
    if second > half and first == 0:
        return "utf-16-le"
    if first > half and second == 0:
        return "utf-16-be"
    return "utf-8"


def _name(encoding: str) -> str:
    return "-".join(encoding.upper().split("-")[:2])
