"""Named arrays in .npz files: written whole or not at all, and nothing in them that reading could execute.

Among them is a digest of the others.  The checksums of the zip format are for each array alone, and whatever writes an
archive anew makes them anew: the digest tells too that arrays are missing, exchanged, or of another file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .archive import Archive, DamagedError
from .atomic import replacing
from .one_line import one_line
from .regular import opened

DIGEST = "digest.blake2b"


def write(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write arrays, numbers and text; raises `TypeError` for Python objects, before the file is touched."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in content.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:  # numpy would pickle it
            raise TypeError(f"{name} holds Python objects; numbers or text are needed")
    arrays[DIGEST] = np.asarray(digest(arrays))
    with replacing(path) as file:
        np.savez(file, **arrays)


def read(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """The arrays of a file; `what` says in the message of a `ValueError` what the file should have been."""
    with opened(path) as stream:
        try:
            archive = Archive(stream)
            content = {name: archive.array(name) for name in archive.names}
            if DIGEST in content and str(content[DIGEST]) != digest(content):
                raise DamagedError("its arrays are not those that were written: their digest is another")
            return content
        except DamagedError as error:
            raise ValueError(f"{path}: not a {what}, or only a part of one ({error})") from error


def check_format(content: Mapping[str, np.ndarray], name: str, current: str, undigested: str) -> None:
    """Raise `ValueError` where `content[name]` is not the current format, or that from before files had a digest."""
    known = one_line(content[name]) if name in content else ""
    if known == undigested:
        return
    if known != current:
        if known.rpartition(" ")[0] == current.rpartition(" ")[0]:
            raise ValueError(f"its format is {known!r}; this version of nagd_numba knows {current!r} and older ones")
        raise ValueError(f"no {current!r} in it")
    if DIGEST not in content:
        raise ValueError("the digest of its arrays is missing")


def digest(content: Mapping[str, np.ndarray]) -> str:
    """What tells these arrays from others: of their names, dtypes, shapes and values."""
    made = hashlib.blake2b(digest_size=16)
    for name in sorted(content):
        if name != DIGEST:
            x = content[name]
            little = np.ascontiguousarray(x.astype(x.dtype.newbyteorder("<"), copy=False))
            made.update(f"{name}\0{little.dtype.str}\0{x.shape}\0".encode("utf-8", "surrogatepass"))
            made.update(little.reshape(-1).view(np.uint8).data)
    return made.hexdigest()


def member(content: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """An array of a file; raises `ValueError` where there is none of the name."""
    if name not in content:
        raise ValueError(f"there is no {name} in it")
    return content[name]


def text(content: Mapping[str, np.ndarray], name: str) -> str:
    """A text of a file; raises `ValueError` for anything else."""
    return str(_scalar(content, name, "U", "a text"))


def number(content: Mapping[str, np.ndarray], name: str) -> float:
    """A number of a file; raises `ValueError` for anything else."""
    return float(_scalar(content, name, "fiu", "a number"))


def whole(content: Mapping[str, np.ndarray], name: str) -> int:
    """A whole number of a file; raises `ValueError` for anything else."""
    return int(_scalar(content, name, "iu", "a whole number"))


def _scalar(content: Mapping[str, np.ndarray], name: str, kinds: str, what: str) -> Any:
    array = member(content, name)
    if array.shape != () or array.dtype.kind not in kinds:
        raise ValueError(f"{name} has shape {array.shape} and dtype {array.dtype}; {what} is needed")
    return array[()]
