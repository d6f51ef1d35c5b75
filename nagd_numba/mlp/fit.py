"""`MLP.fit`: epochs, validation, and what continues a training."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import numpy as np

from ..history import History
from ..schedules import Progress
from ..validation import choice, flag, positive, whole
from . import arguments
from .backends import place_of
from .cpu.trainer import shuffled
from .metrics import checked_metrics, columns, described, validated
from .plan import Normalization, Plan
from .progress import ProgressBar, telling
from .rates import OPTIMIZERS, Rates, rule_of
from .spec import NetworkSpec
from .stopping import DIVERGED, Limits


def fit(
    spec: NetworkSpec,
    params: Any,
    X: Any,
    y: Any,
    *,
    epochs: int,
    batch_size: int,
    lr: Any,
    momentum: Any,
    progress: bool,
    optimizer: str,
    vel: Any,
    seed: int,
    shuffle: bool,
    sample_weight: Any,
    validation: Any,
    metrics: Any,
    patience: int | None,
    min_gain: float,
    target_loss: float | None,
    time_budget: float | None,
    keep: str,
    clip: float | None,
    accumulate: int,
    callback: Any,
    history: History | None,
) -> History:
    """See `MLP.fit`."""
    start = time.perf_counter()
    choice("optimizer", optimizer, OPTIMIZERS)
    rule, options = rule_of(optimizer)
    place = place_of(spec, params, vel, states=len(rule.states))
    whole(epochs=epochs, batch_size=batch_size, accumulate=accumulate)
    number = int(arguments.seed("seed", seed))
    choice("keep", keep, ("last", "best"))
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is {callback!r}; a function of the History is needed")
    wanted = checked_metrics(spec, metrics)
    shuffle = flag("shuffle", shuffle)
    rates = Rates(lr, momentum, optimizer, spec.dtype)
    largest = math.inf if clip is None else positive("clip", clip)
    limits = Limits(patience, min_gain, target_loss, time_budget)
    parts = place.split(X, y, sample_weight, validation, number)
    past = History() if history is None else history
    if not isinstance(past, History):
        raise TypeError(f"history is {history!r}; the History of a training is needed")
    if past.epochs:
        _continues(past, columns(wanted, parts), vel, optimizer, keep)
    past.stopped = None

    plan = Plan(
        min(int(batch_size), len(parts.rows)),
        Normalization.mean(spec),
        *(rule, options),
        accumulate=min(int(accumulate), len(parts.rows)),
        clip=largest,
        measure=bool(wanted),
    )
    trainer = place.trainer(parts, plan)
    order = parts.rows.copy()
    updates, steps = plan.updates(len(order)), plan.steps(len(order))
    best, best_params = math.inf, place.values().copy() if keep == "best" else None
    before = past.seconds
    with ProgressBar(progress, (epochs - past.epochs) * steps, epochs) as told, telling(params, vel):
        while past.epochs < epochs:
            epoch = past.epochs
            if shuffle:
                shuffled(order, parts.rows, number, epoch)
            reached = Progress(updates, len(order), past.values("loss"))
            hyper = rates.of_epoch(epoch * updates, reached)
            sums = trainer.epoch(order, hyper, np.uint64(number), epoch * steps, told.steps)
            values = described(sums, wanted, spec)
            values |= {"lr": hyper[-1, 0], "momentum": hyper[-1, 1]}
            if parts.validation is not None:
                values |= validated(spec, place.values(), parts, wanted)
            past.append(values)
            past.seconds = before + time.perf_counter() - start
            told.epoch(past)
            watched = past.last("validation_loss" if parts.validation is not None else "loss")
            if best_params is not None and watched < best:
                best, best_params[:] = watched, place.values()
            ended = rates.lr.ended(Progress(updates, len(order), past.values("loss")))
            past.stopped = limits.reached(past, parts.validation is not None, ended)
            if callback is not None and callback(past) and past.stopped is None:
                past.stopped = "callback"
            if past.stopped is not None:
                break
        if best_params is not None and math.isfinite(best):
            place.restore(best_params)
    if past.stopped == DIVERGED:
        warnings.warn(
            f"training diverged in epoch {past.epochs}: the loss is {past.last('loss')}; a smaller lr or clip= helps",
            RuntimeWarning,
            stacklevel=3,
        )
    return past


def _continues(history: History, columns: set[str], vel: Any, optimizer: str, keep: str) -> None:
    """Raise unless a training of these columns can continue the history."""
    if vel is None and optimizer != "gd":
        raise ValueError("history has epochs and vel is missing; to continue, give the velocity of that training")
    if keep == "best":
        raise ValueError("keep is 'best', and the best parameters of the epochs in history are not known; take 'last'")
    if columns != set(history.to_dict()):
        raise ValueError(
            f"history has the columns {', '.join(history.to_dict())}, and this training {', '.join(sorted(columns))}; "
            f"a training goes on with the metrics and the validation that it began with"
        )
