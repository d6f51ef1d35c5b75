"""Files of the cache: written whole or not at all, and read only as they were written.

    contents, then the 16 bytes of their BLAKE2b digest

Machine code that lost a bit may compute something else, so a file whose digest does not fit is as good as none.  A file
that cannot be written is no error: what it would have held is made anew in the next process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

_BYTES = 16


def read(path: Path) -> bytes | None:
    """What was written, or None: there is no such file, it cannot be read, or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    contents, digest = data[:-_BYTES], data[-_BYTES:]
    return contents if len(digest) == _BYTES and _digest(contents) == digest else None


def write(path: Path, contents: bytes) -> None:
    """Keep it, where the disk allows it; of several writers the last one's is kept."""
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)  # somebody may have removed it meanwhile
        part.write_bytes(contents + _digest(contents))
        os.replace(part, path)
    except OSError:  # a full disk, a read-only one, a file where a folder should be
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _digest(contents: bytes) -> bytes:
    return hashlib.blake2b(contents, digest_size=_BYTES).digest()
