"""Files that appear whole or not at all, whoever is killed and whoever else writes them."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows: what a killed process leaves stays
    LOCKS = False
else:
    LOCKS = True

_cleared: set[Path] = set()


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` at the end; after an error `path` is as it was.

    Until then it is a file beside it, of a name of its own: of several that write one path the last one wins.  What a
    process leaves that is killed meanwhile, the next one removes.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    if target not in _cleared:
        _remove_leftovers(target)
        _cleared.add(target)
    file, temporary = _beside(target)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if LOCKS:
                os.replace(temporary, target)  # which ends with `file`
        if not LOCKS:
            os.replace(temporary, target)  # Windows moves no open file
    finally:
        temporary.unlink(missing_ok=True)


def check_replaceable(path: str | Path) -> None:
    """Raise `OSError` where `replacing(path)` would, before there is anything to lose."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a directory; the name of a file is needed")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no directory {target.parent}")
    try:
        file, probe = _beside(target)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from error
    with file, contextlib.suppress(OSError):
        probe.unlink(missing_ok=True)


def _beside(target: Path) -> tuple[BinaryIO, Path]:
    """A new file in the same folder, locked as long as it is open: that is how others see that its writer lives."""
    while True:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
        file = temporary.open("xb")
        if LOCKS:
            with contextlib.suppress(OSError):  # of a file system without locks: then nobody has one
                flock(file, LOCK_EX | LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:  # taken for a leftover before it was locked
                file.close()
                continue
        return file, temporary


def _remove_leftovers(target: Path) -> None:
    """Remove what processes have left beside the target that were killed while they wrote it."""
    if not LOCKS:
        return
    leftover = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.tmp")
    with contextlib.suppress(OSError):
        for name in os.listdir(target.parent):
            if leftover.fullmatch(name):
                with contextlib.suppress(OSError), target.with_name(name).open("rb") as file:
                    flock(file, LOCK_EX | LOCK_NB)
                    target.with_name(name).unlink()
