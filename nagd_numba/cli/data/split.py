"""Training and validation rows, and the scaling of their features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...model_file import Preprocessing
from .samples import DataError, Samples


@dataclass(frozen=True)
class Split:
    """Scaled samples in two parts, with class indices as labels; `understood` is that of the samples."""

    X: np.ndarray
    y: np.ndarray
    X_validation: np.ndarray
    y_validation: np.ndarray
    preprocessing: Preprocessing
    name: str
    understood: str = ""


def split(samples: Samples, validation: float, seed: int, dtype: str = "float32") -> Split:
    """Hold back a seeded, stratified part of the rows; fit the scaling on the rest."""
    chosen = _stratified(samples.y, validation, seed, samples.name)
    rest = np.setdiff1d(np.arange(len(samples.y)), chosen)
    mean, scale = _scaling(samples, rest)
    preprocessing = Preprocessing(mean, scale, samples.classes)
    with np.errstate(all="ignore"):
        X, X_validation = (preprocessing(samples.X[rows], dtype) for rows in (rest, chosen))
    if not (np.isfinite(X).all() and np.isfinite(X_validation).all()):
        raise DataError(f"{samples.name}: features are too large to be scaled in {dtype}")
    held = X_validation, samples.y[chosen]
    return Split(X, samples.y[rest], *held, preprocessing, samples.name, samples.understood)


def _stratified(y: np.ndarray, fraction: float, seed: int, name: str) -> np.ndarray:
    """Rows held back: every (1/fraction)-th of the rows in random order within each class, one class after another.

    So each class keeps its share to within one row.  Fractions up to 1/2 leave a row of each class for training;
    the only row of a class stays there.
    """
    shuffled = np.random.default_rng([seed, 0]).permutation(len(y))
    order = shuffled[np.argsort(y[shuffled], kind="stable")]
    order = order[np.bincount(y)[y[order]] > 1]
    if len(order) == 0:
        raise DataError(f"{name}: every row has a label of its own; classes of several rows are needed")
    count = max(1, min(round(fraction * len(order)), len(order) // 2))
    return np.sort(order[((np.arange(count) + 0.5) * len(order) / count).astype(np.int64)])


def _scaling(samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    X = samples.X[rows]
    if samples.scale is not None:
        return np.zeros(X.shape[1]), np.full(X.shape[1], samples.scale)
    with np.errstate(all="ignore"):
        mean, scale = X.mean(axis=0), X.std(axis=0)
    scale[X.min(axis=0) == X.max(axis=0)] = 1.0  # constant columns carry nothing: only shifted
    scale[scale == 0] = 1.0  # spread below what a square can hold
    if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
        raise DataError(f"{samples.name}: features are too large to be standardised in float64; rescale them first")
    return mean, scale
