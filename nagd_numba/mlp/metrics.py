"""Loss and metrics of an epoch, from what the kernels sum up."""

from __future__ import annotations

from collections.abc import Sequence

from .. import validation
from .dataset import Split
from .losses import LOSSES
from .spec import NetworkSpec, terms
from .sums import ABSOLUTE, HIT, LOSS, PENALTY, SQUARE, WEIGHT

METRICS = ("accuracy", "mae", "mse")


def checked_metrics(spec: NetworkSpec, metrics: Sequence[str]) -> tuple[str, ...]:
    try:
        names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    except TypeError as error:
        raise TypeError(f"metrics is {metrics!r}; a sequence of {', '.join(METRICS)} is needed") from error
    for name in names:
        validation.choice("metrics", name, METRICS)
        if name != "accuracy" and LOSSES[spec.loss].coupled:
            raise ValueError(f"metrics has {name!r}, and the targets of {spec.loss} are labels: take 'accuracy'")
    if "accuracy" in names and spec.loss == "mse" and spec.sizes[-1] == 1:
        raise ValueError("metrics has 'accuracy', and mse with one output has no classes: take 'mae' or 'mse'")
    return names


def described(sums: Sequence[float], metrics: Sequence[str], spec: NetworkSpec) -> dict[str, float]:
    """Loss and metrics, weighted means both, from what the kernels sum up."""
    outputs = terms(spec)
    mass = sums[WEIGHT] or 1.0  # every weight is 0, and so is every sum
    hits = mass * outputs if LOSSES[spec.loss].binary else mass
    values = {"loss": (sums[LOSS] + sums[PENALTY]) / mass}
    if not metrics:
        return values
    shares = {
        "accuracy": sums[HIT] / hits,
        "mae": sums[ABSOLUTE] / (mass * outputs),
        "mse": sums[SQUARE] / (mass * outputs),
    }
    return values | {name: float(shares[name]) for name in metrics}


def measured(
    spec: NetworkSpec,
    sums: Sequence[float],
    rates: dict[str, float],
    metrics: Sequence[str],
    evaluated: Sequence[float] | None,
) -> dict[str, float]:
    """A row of the history of a network: what an epoch summed up, its last rates, the sums of the validation."""
    values = described(sums, metrics, spec) | rates
    if evaluated is not None:
        values |= {f"validation_{name}": value for name, value in described(evaluated, metrics, spec).items()}
    return values


def columns(metrics: Sequence[str], parts: Split) -> set[str]:
    """The columns of the history of such a training."""
    measured = {"loss", *metrics}
    if parts.validation is not None:
        measured |= {f"validation_{name}" for name in measured}
    return {"lr", "momentum", *measured}
