"""Files to read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


def opened(path: str | Path) -> BinaryIO:
    """A regular file, open to be read; raises `OSError`, and `ValueError` for pipes, sockets and devices.

    To open a named pipe would wait for its writer, and what has no end or no places in it is no archive and no table.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # `open` has the words for a directory
        raise ValueError(f"{path}: a pipe, a socket or a device; a regular file is needed")
    return Path(path).open("rb")
