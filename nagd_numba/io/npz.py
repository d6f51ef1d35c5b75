"""Named arrays in .npz files: written whole or not at all, and nothing in them that reading could execute."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import replacing


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
    with Path(path).open("rb") as stream:
        try:
            file = np.load(stream, allow_pickle=False)
            return {name: file[name] for name in file.files}
        except (ValueError, EOFError, KeyError, OSError, AttributeError, RuntimeError) as error:  # that of encryption
            problem: Exception = error
        except (zipfile.BadZipFile, zlib.error) as error:
            problem = error
    raise ValueError(f"{path}: not a {what}, or only a part of one ({problem})")
