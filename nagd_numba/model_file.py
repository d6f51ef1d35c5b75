"""Trained models in .npz files: plain arrays, nothing that loading could execute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .io import npz
from .io.one_line import one_line
from .mlp import MLP

FORMAT, UNDIGESTED = "nagd_numba.MLP 2", "nagd_numba.MLP 1"


@dataclass(frozen=True)
class Preprocessing:
    """What turns features into the network's inputs, `(X - mean) / scale`, and its outputs into `classes`."""

    mean: np.ndarray
    scale: np.ndarray
    classes: np.ndarray

    def __call__(self, X: np.ndarray, dtype: str = "float32") -> np.ndarray:
        """Features of shape (n, d) as the network takes them."""
        return np.ascontiguousarray((np.asarray(X, np.float64) - self.mean) / self.scale, dtype=dtype)


def save_model(
    path: str | Path,
    model: MLP,
    params: np.ndarray,
    preprocessing: Preprocessing,
    method: str = "",
    epoch: int = 0,
    accuracy: float = float("nan"),
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a model, and what else its training needs; the file at `path` changes whole or not at all."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "params": params,
        "sizes": np.array(model.sizes, dtype=np.int64),
        "activation": model.activation,
        "loss": model.loss_name,
        "dropout": model.dropout,
        "l2": model.l2,
        "mean": preprocessing.mean,
        "scale": preprocessing.scale,
        "classes": preprocessing.classes,
        "method": method,
        "epoch": epoch,
        "accuracy": accuracy,
    }
    npz.write(path, content | dict(training or {}))


def load_model(path: str | Path) -> tuple[MLP, np.ndarray, Preprocessing]:
    """The model of a file of `nagd-numba train --save`, its parameters, and what its inputs and outputs mean.

    Raises `ValueError` for any other file, and `OSError` where it cannot be read.  The model computes in float32 or
    float64, as its parameters are, on the CPU too; `--precision tf32` is a property of the training.

    With `model, params, preprocessing = load_model(path)`, the classes of the rows of `X` are
    `preprocessing.classes[model.forward(params, preprocessing(X)).argmax(axis=1)]`.
    """
    content = npz.read(path, "model file")
    try:
        npz.check_format(content, "format", FORMAT, UNDIGESTED)
    except ValueError as error:
        raise ValueError(f"{path}: not a model of nagd-numba train --save: {error}") from error
    try:
        return _model(content)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: a damaged model: {one_line(error)}") from error


def _model(content: Mapping[str, np.ndarray]) -> tuple[MLP, np.ndarray, Preprocessing]:
    """A model of the arrays of a file; raises for those that make none."""
    params, mean, scale, classes = (npz.member(content, name) for name in ("params", "mean", "scale", "classes"))
    sizes = npz.member(content, "sizes")
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu":
        raise ValueError(f"sizes has shape {sizes.shape} and dtype {sizes.dtype}; whole numbers are needed")
    model = MLP(
        sizes.tolist(),
        activation=npz.text(content, "activation"),
        loss=npz.text(content, "loss"),
        dropout=npz.number(content, "dropout"),
        l2=npz.number(content, "l2"),
        dtype=params.dtype.name,
    )
    widths = {"params": model.size, "mean": model.sizes[0], "scale": model.sizes[0], "classes": model.sizes[-1]}
    for name, length in widths.items():
        if content[name].shape != (length,):
            raise ValueError(f"{name} has shape {content[name].shape}, its sizes need ({length},)")
    for name in ("mean", "scale"):
        if content[name].dtype.kind not in "fiu":
            raise ValueError(f"{name} has dtype {content[name].dtype}; numbers are needed")
    if classes.dtype.kind not in "biufUS":
        raise ValueError(f"classes has dtype {classes.dtype}; numbers or text are needed")
    for name in ("params", "mean", "scale"):
        if not np.isfinite(content[name]).all():
            raise ValueError(f"{name}: not all of it is finite")
    if (scale == 0).any():
        raise ValueError("scale is 0 somewhere")
    return model, params, Preprocessing(mean, scale, classes)
