"""The user's own samples, from an .npz or a .csv file."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from .samples import DataError, Samples, checked

DELIMITERS = ",;\t"


def load_file(path: str | Path, label: str | None = None) -> Samples:
    """Read samples by the file's suffix; `label` is the label column of a csv file, by name or index (default: last).

    Raises `DataError` for everything that is wrong with the file.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".csv"):
        raise DataError(f"{path}: suffix {path.suffix!r} is not known; an .npz or a .csv file is needed")
    if suffix == ".npz" and label is not None:
        raise DataError(f"{path}: --label is for .csv files; in an .npz file the labels are the array y")
    try:
        return _npz(path) if suffix == ".npz" else _csv(path, label)
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def _npz(path: Path) -> Samples:
    with path.open("rb") as stream:  # numpy's own error for a missing file would pass for a bad one below
        try:
            file = np.load(stream, allow_pickle=False)
            names = file.files
        except (ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not an .npz archive of NumPy (numpy.savez writes them)") from error
        missing = [name for name in ("X", "y") if name not in names]
        if missing:
            raise DataError(
                f"{path}: no array named {' and '.join(missing)}; arrays X (n, d) and y (n,) are needed, the file "
                f"has {', '.join(names) or 'none'}"
            )
        X, y = (_member(path, file, name) for name in ("X", "y"))
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
        y = np.char.decode(y, "utf-8", "replace")
    return checked(X.astype(np.float64), y, str(path))


def _member(path: Path, file: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return np.asarray(file[name])
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise DataError(
                f"{path}: {name} is an array of Python objects, which only pickle could read and pickle can run "
                f"code; save it with a numeric dtype, or text as str"
            ) from error
        raise DataError(f"{path}: array {name} is damaged ({error})") from error
    except (EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: array {name} is damaged ({error})") from error


def _csv(path: Path, label: str | None) -> Samples:
    lines, rows = _read_rows(path)
    header = rows[0] if _has_header(rows, label) else None
    if header is not None:
        lines, rows = lines[1:], rows[1:]
    width = len(header if header is not None else rows[0])
    if width < 2:
        raise DataError(f"{path}: one column only; features and a label column are needed")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != width:
            raise DataError(f"{path}: line {line} has {len(row)} columns, the first line has {width}")
    column = _label_column(path, label, header, width)
    names = [repr(name.strip()) for name in header] if header is not None else [str(i) for i in range(width)]
    features = [i for i in range(width) if i != column]
    X = np.empty((len(rows), len(features)))
    for i, row in enumerate(rows):
        try:
            X[i] = [float(row[j]) for j in features]
        except ValueError:
            _not_a_number(path, row, features, names, lines[i])
    labels = _labels(path, [row[column].strip() for row in rows], lines, names[column])
    return checked(X, labels, str(path), where=lambda i, j: f"line {lines[i]}, column {names[features[j]]}")


def _read_rows(path: Path) -> tuple[list[int], list[list[str]]]:
    """The rows that are not blank, with their line numbers."""
    lines, rows = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(DELIMITERS, key=first.count)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            for row in reader:
                if any(cell.strip() for cell in row):
                    lines.append(reader.line_num)
                    rows.append(row)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} cannot be read as csv ({error})") from error
    if not rows:
        raise DataError(f"{path}: the file is empty")
    return lines, rows


def _has_header(rows: Sequence[Sequence[str]], label: str | None) -> bool:
    """A header is a first row without numbers, or with the label column's name, or with text over numeric labels."""
    first, *rest = rows
    if not any(_is_float(cell) for cell in first):
        return True
    if label is not None and not _is_int(label):
        return label in [cell.strip() for cell in first]
    column = -1 if label is None else int(label)
    if not -len(first) <= column < len(first) or _is_float(first[column]):
        return False
    return bool(rest) and all(_is_float(row[column]) for row in rest if -len(row) <= column < len(row))


def _label_column(path: Path, label: str | None, header: Sequence[str] | None, width: int) -> int:
    if label is None:
        return width - 1
    names = [name.strip() for name in header] if header is not None else []
    if names.count(label) > 1:
        raise DataError(f"{path}: {names.count(label)} columns are named {label!r}; give --label an index")
    if label in names:
        return names.index(label)
    if _is_int(label):
        if -width <= int(label) < width:
            return int(label) % width
        raise DataError(f"{path}: no column {label}; there are {width}, counted from 0 (or from -1, the last)")
    if header is None:
        raise DataError(
            f"{path}: no column {label!r}: there is no header line; give --label an index, 0 to {width - 1}"
        )
    raise DataError(f"{path}: no column {label!r}; there are {', '.join(names)}")


def _not_a_number(path: Path, row: Sequence[str], features: Sequence[int], names: Sequence[str], line: int) -> NoReturn:
    bad = next(j for j in features if not _is_float(row[j]))
    what = f"text {row[bad].strip()!r}" if row[bad].strip() else "an empty cell (a missing value)"
    raise DataError(
        f"{path}: {what} in line {line}, column {names[bad]}; features are numbers (--label names the label column)"
    )


def _labels(path: Path, cells: Sequence[str], lines: Sequence[int], column: str) -> np.ndarray:
    """Integers where all labels are, text otherwise; raises for quantities."""
    if "" in cells:
        raise DataError(f"{path}: the label is empty in line {lines[cells.index('')]}, column {column}")
    if all(_is_int(cell) for cell in cells):
        try:
            return np.array([int(cell) for cell in cells], dtype=np.int64)
        except OverflowError:  # identifiers of many digits
            return np.array(cells)
    if all(_is_float(cell) for cell in cells):
        bad = next(i for i, cell in enumerate(cells) if not _is_int(cell))
        raise DataError(
            f"{path}: label {cells[bad]} in line {lines[bad]}, column {column} is not an integer; labels are classes "
            f"(integers or text), not a quantity for regression"
        )
    return np.array(cells)


def _is_float(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_int(cell: str) -> bool:
    try:
        int(cell)
    except ValueError:
        return False
    return True
