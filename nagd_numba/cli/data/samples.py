"""Samples with class labels, checked once and for all sources alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...io.digits import read_digits
from .cells import shown

MIN_ROWS = 10


class DataError(ValueError):
    """The data cannot be used; the message says where and why, in one line."""


@dataclass(frozen=True)
class Samples:
    """`X` (n, d) in float64, the class of each row as an index `y` into `classes`, and a name for messages.

    `scale` is the divisor that brings the features to [0, 1], where it is known beforehand.  `understood` tells in one
    line how a table of text was read.
    """

    X: np.ndarray
    y: np.ndarray
    classes: np.ndarray
    name: str
    scale: float | None = None
    understood: str = ""


def load_digits() -> Samples:
    """The UCI digits that come with the package."""
    X, y = read_digits()
    return checked(X.astype(np.float64), y.astype(np.int64), "digits", scale=16.0)


def checked(
    X: np.ndarray,
    labels: np.ndarray,
    name: str,
    scale: float | None = None,
    where: Callable[[int, int], str] = "row {}, column {}".format,
) -> Samples:
    """Samples of a feature matrix and labels (integers, text or truth values); raises for what cannot be learnt.

    `where(row, column)` names a place of `X` in the user's terms.
    """
    finite = np.isfinite(X)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        value = X[row, column]
        what = "NaN (a missing value)" if np.isnan(value) else "infinity"
        raise DataError(f"{name}: {what} in {where(row, column)}; remove or fill it first")
    if len(X) < MIN_ROWS:
        raise DataError(f"{name}: {len(X)} row{'s' if len(X) != 1 else ''}; at least {MIN_ROWS} are needed")
    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"{name}: one class only ({shown(str(classes[0]))}); at least two are needed")
    return Samples(X, y.astype(np.int64), classes, name, scale)
