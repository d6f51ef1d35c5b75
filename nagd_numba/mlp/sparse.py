"""Samples of which most elements are 0: the rows of a matrix in compressed sparse row format (CSR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validation
from .arguments import UINT8_SCALE


@dataclass(frozen=True, eq=False)
class SparseRows:
    """`values[starts[i] : starts[i + 1]]` are those of row i, in the columns `columns[...]`, which increase."""

    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray  # int64
    shape: tuple[int, int]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def most(self, rows: int) -> int:
        """The most values that so many different rows have."""
        counts = np.sort(np.diff(self.starts))
        return int(counts[len(counts) - rows :].sum())


def is_sparse(x: Any) -> bool:
    """Is this a sparse matrix or array of SciPy?"""
    return hasattr(x, "tocsr") and hasattr(x, "nnz")


def sparse_rows(X: Any, dtype: np.dtype[Any]) -> SparseRows:
    """A matrix of SciPy as rows of this dtype, in which they must be finite; uint8 is divided by 255.

    They are in the memory of the matrix where it is CSR with sorted columns and has the dtype.
    """
    csr = X.tocsr()
    _check_structure(csr)
    if not _columns_increase(csr):  # whatever its flag says
        csr = csr.copy() if csr is X else csr
        csr.has_canonical_format = False
        csr.sum_duplicates()
    values, columns = csr.data[: csr.indptr[-1]], csr.indices[: csr.indptr[-1]]
    if values.dtype.kind not in "fiub":
        raise TypeError(f"X has dtype {values.dtype}; real numbers are needed: X.astype({str(dtype)!r})")
    at = validation.first_not_finite(values, dtype)
    if at is not None:
        row = int(np.searchsorted(csr.indptr, at[0], side="right")) - 1
        raise ValueError(
            f"X is {float(values[at])!r} in row {row}, column {csr.indices[at]}; finite numbers are needed (in {dtype})"
        )
    scaled, values = values.dtype == np.uint8, values.astype(dtype, copy=False)
    if scaled:
        values *= dtype.type(UINT8_SCALE)
    if columns.dtype not in (np.int32, np.int64):
        columns = columns.astype(np.int64)
    starts = csr.indptr.astype(np.int64)
    return SparseRows(np.ascontiguousarray(values), np.ascontiguousarray(columns), starts, csr.shape)


def _check_structure(csr: Any) -> None:
    """Raise unless the arrays of a CSR matrix lead to values and columns that are there; SciPy looks at no column."""
    (rows, width), starts, columns, count = csr.shape, csr.indptr, csr.indices, min(len(csr.data), len(csr.indices))
    if starts.shape != (rows + 1,) or starts[0] != 0 or (starts[1:] < starts[:-1]).any() or starts[-1] > count:
        raise ValueError(
            f"X.indptr must have {rows + 1} numbers that begin at 0 and do not fall, up to the {count} values that "
            f"X.data and X.indices have: X.check_format() says where it does not"
        )
    used = columns[: starts[-1]]
    if used.size and not (used.min() >= 0 and used.max() < width):
        at = int(((used < 0) | (used >= width)).argmax())
        row = int(np.searchsorted(starts, at, side="right")) - 1
        raise ValueError(f"X.indices is {used[at]} in row {row}; columns from 0 to below {width} are needed")


def _columns_increase(csr: Any) -> bool:
    """Are the columns of each row sorted, each there once?"""
    starts = csr.indptr
    columns = csr.indices[: starts[-1]]
    rises = columns[1:] > columns[:-1]
    begins = starts[(starts > 0) & (starts < len(columns))]  # of a row after the first value
    rises[begins - 1] = True
    return bool(rises.all())
