"""What the estimators of `sklearn.py` are given, as their training takes it."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import column_or_1d, validate_data


def hidden_sizes(given: Any) -> tuple[int, ...]:
    """The widths of the hidden layers, from a sequence or one number."""
    widths = list(given) if hasattr(given, "__iter__") else [given]
    if any(width <= 0 for width in widths):
        raise ValueError(f"hidden_layer_sizes is {given!r}; every width must be > 0")
    try:
        return tuple(map(operator.index, widths))
    except TypeError as error:
        raise TypeError(f"hidden_layer_sizes is {given!r}; whole numbers are needed: (100, 50)") from error


def by_rows(X: Any) -> Any:
    """X as a plain matrix in C order, or as a sparse one in CSR format."""
    return X.tocsr() if sparse.issparse(X) else np.ascontiguousarray(X)


def read(estimator: BaseEstimator, X: Any, y: Any, reset: bool, **more: Any) -> tuple[Any, np.ndarray]:
    """X and y after scikit-learn's checks; a y of one column as a vector."""
    formats, kinds = ["csr", "csc"], (np.float64, np.float32)
    common = {"accept_sparse": formats, "multi_output": True, "dtype": kinds, "order": "C", "reset": reset}
    X, y = validate_data(estimator, X, y, **common, **more)
    return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
