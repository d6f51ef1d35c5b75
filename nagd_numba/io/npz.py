"""Named arrays in .npz files: written whole or not at all, and nothing in them that reading could execute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .archive import Archive, DamagedError
from .atomic import replacing
from .regular import opened


def write(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write arrays, numbers and text; raises `TypeError` for Python objects, before the file is touched."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in content.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:  # numpy would pickle it
            raise TypeError(f"{name} holds Python objects; numbers or text are needed")
    with replacing(path) as file:
        np.savez(file, **arrays)


def read(path: str | Path, what: str) -> dict[str, np.ndarray]:
    """The arrays of a file; `what` says in the message of a `ValueError` what the file should have been."""
    with opened(path) as stream:
        try:
            archive = Archive(stream)
            return {name: archive.array(name) for name in archive.names}
        except DamagedError as error:
            raise ValueError(f"{path}: not a {what}, or only a part of one ({error})") from error


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
