"""Samples in an .npz file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...io.archive import Archive, DamagedError, ObjectsError
from ...io.one_line import one_line
from ...io.regular import opened
from .samples import DataError, Samples, checked


def read_arrays(path: Path) -> Samples:
    """The arrays X (n, d) and y (n,) of the file; other arrays in it are left alone."""
    with opened(path) as stream:
        try:
            archive = Archive(stream)
            missing = [name for name in ("X", "y") if name not in archive.names]
            if missing:
                raise DataError(
                    f"{path}: no array named {' and '.join(missing)}; arrays X (n, d) and y (n,) are needed, the file "
                    f"has {one_line(', '.join(archive.names)) if archive.names else 'none'}"
                )
            X, y = (archive.array(name) for name in ("X", "y"))
        except ObjectsError as error:
            raise DataError(f"{path}: {error}") from error
        except DamagedError as error:
            raise DataError(f"{path}: not an .npz archive of NumPy (numpy.savez writes them): {error}") from error
    if X.ndim != 2:
        hint = ": X.reshape(len(X), -1)" if X.ndim > 2 else ""
        raise DataError(f"{path}: X has shape {X.shape}; a matrix (n, d) is needed{hint}")
    if X.shape[1] == 0:
        raise DataError(f"{path}: X has no columns")
    if X.dtype.kind not in "fiub":
        raise DataError(f"{path}: X has dtype {X.dtype}; numbers are needed")
    if y.ndim != 1:
        raise DataError(f"{path}: y has shape {y.shape}; one label a row is needed, shape (n,)")
    if len(X) != len(y):
        raise DataError(f"{path}: X has {len(X)} rows and y {len(y)}; one label a row is needed")
    if y.dtype.kind == "f":
        raise DataError(
            f"{path}: y has dtype {y.dtype}; labels are classes (integers or text), not a quantity for regression; "
            f"if these are classes: y.astype(int)"
        )
    if y.dtype.kind not in "iubUS":
        raise DataError(f"{path}: y has dtype {y.dtype}; integers or text are needed")
    if y.dtype.kind == "S":
        try:
            y = np.char.decode(y, "utf-8")
        except UnicodeDecodeError as error:  # to replace what is none would make different labels one
            raise DataError(f"{path}: y holds bytes that are no text in UTF-8; save it as str") from error
    with np.errstate(all="ignore"):  # of long doubles: told as infinity
        return checked(X.astype(np.float64), y, str(path))
