"""Loss and metrics of an epoch, from what the kernels sum up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import validation
from .cpu import train_kernels
from .cpu.trainer import evaluate
from .dataset import Split
from .losses import LOSSES

if TYPE_CHECKING:
    from .model import MLP


METRICS = ("accuracy", "mae", "mse")


def checked_metrics(model: MLP, metrics: Sequence[str]) -> tuple[str, ...]:
    try:
        names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    except TypeError as error:
        raise TypeError(f"metrics is {metrics!r}; a sequence of {', '.join(METRICS)} is needed") from error
    for name in names:
        validation.choice("metrics", name, METRICS)
        if name != "accuracy" and LOSSES[model.loss_name].labels:
            raise ValueError(f"metrics has {name!r}, and the targets of {model.loss_name} are labels: take 'accuracy'")
    if "accuracy" in names and model.loss_name == "mse" and model.sizes[-1] == 1:
        raise ValueError("metrics has 'accuracy', and mse with one output has no classes: take 'mae' or 'mse'")
    return names


def described(sums: np.ndarray, metrics: Sequence[str], model: MLP) -> dict[str, float]:
    """Loss and metrics, from what the kernels sum up."""
    outputs = 1 if LOSSES[model.loss_name].labels else model.sizes[-1]
    sums = sums.tolist()
    rows = sums[train_kernels.ROWS_SEEN]
    hits = rows * outputs if LOSSES[model.loss_name].binary else rows
    values = {
        "loss": (sums[train_kernels.LOSS] + sums[train_kernels.PENALTY]) / sums[train_kernels.WEIGHT]
        if sums[train_kernels.WEIGHT]
        else 0.0
    }
    if not metrics:
        return values
    shares = {
        "accuracy": sums[train_kernels.HIT] / hits,
        "mae": sums[train_kernels.ABSOLUTE] / (rows * outputs),
        "mse": sums[train_kernels.SQUARE] / (rows * outputs),
    }
    return values | {name: float(shares[name]) for name in metrics}


def columns(metrics: Sequence[str], parts: Split) -> set[str]:
    """The columns of the history of such a training."""
    measured = {"loss", *metrics}
    if parts.validation is not None:
        measured |= {f"validation_{name}" for name in measured}
    return {"lr", "momentum", *measured}


def validated(model: MLP, params: np.ndarray, parts: Split, metrics: Sequence[str]) -> dict[str, float]:
    assert parts.validation is not None
    sums = evaluate(model, params, parts.validation, parts.validation_rows)
    return {f"validation_{name}": value for name, value in described(sums, metrics, model).items()}
