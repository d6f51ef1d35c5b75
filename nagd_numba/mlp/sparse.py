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
    if not csr.has_canonical_format:
        csr = csr.copy() if csr is X else csr
        csr.sum_duplicates()
    values = csr.data
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
    columns = csr.indices if csr.indices.dtype in (np.int32, np.int64) else csr.indices.astype(np.int64)
    starts = csr.indptr.astype(np.int64)
    return SparseRows(np.ascontiguousarray(values), np.ascontiguousarray(columns), starts, csr.shape)
