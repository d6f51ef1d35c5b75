"""Trained models in .npz files: plain arrays, nothing that loading could execute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .io import npz
from .mlp import MLP

FORMAT = "nagd_numba.MLP 1"


@dataclass(frozen=True)
class Preprocessing:
    """What turns features into the network's inputs, `(X - mean) / scale`, and its outputs into `classes`."""

    mean: np.ndarray
    scale: np.ndarray
    classes: np.ndarray

    def __call__(self, X: np.ndarray, dtype: str = "float32") -> np.ndarray:
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
    if str(content.get("format")) != FORMAT:
        raise ValueError(f"{path}: not a model of nagd-numba train --save (no format {FORMAT!r} in it)")
    try:
        params = content["params"]
        sizes = tuple(int(n) for n in content["sizes"])
        model = MLP(
            sizes,
            activation=str(content["activation"]),
            loss=str(content["loss"]),
            dropout=float(content["dropout"]),
            l2=float(content["l2"]),
            dtype=params.dtype.name,
        )
        preprocessing = Preprocessing(*(content[name] for name in ("mean", "scale", "classes")))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: a damaged model: {error}") from error
    widths = {
        "params": (params, model.size),
        "mean": (preprocessing.mean, sizes[0]),
        "scale": (preprocessing.scale, sizes[0]),
        "classes": (preprocessing.classes, sizes[-1]),
    }
    for name, (array, length) in widths.items():
        if array.shape != (length,):
            raise ValueError(f"{path}: a damaged model: {name} has shape {array.shape}, its sizes need ({length},)")
    if not np.isfinite(params).all():
        raise ValueError(f"{path}: a damaged model: params are not all finite")
    return model, params, preprocessing
