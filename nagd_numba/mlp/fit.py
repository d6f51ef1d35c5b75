"""`MLP.fit`: epochs, validation, and what continues a training."""

from __future__ import annotations

import math
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..history import History
from ..schedules import Progress
from ..validation import positive, whole
from . import arguments
from .backends import place_of
from .cpu.trainer import shuffled
from .metrics import checked_metrics, columns, described, validated
from .plan import Plan
from .progress import ProgressBar, telling
from .rates import OPTIMIZERS, Rates, rule_of
from .stopping import DIVERGED, Limits

if TYPE_CHECKING:
    from .model import MLP


def fit(
    model: MLP,
    params: Any,
    X: Any,
    y: Any,
    epochs: int = 20,
    batch_size: int = 32,
    lr: Any = 0.05,
    momentum: Any = 0.9,
    progress: bool = False,
    optimizer: str = "nag",
    *,
    vel: Any = None,
    seed: int = 0,
    shuffle: bool = True,
    sample_weight: Any = None,
    validation: Any = None,
    metrics: Any = (),
    patience: int | None = None,
    min_gain: float = 0.0,
    target_loss: float | None = None,
    time_budget: float | None = None,
    keep: str = "last",
    clip: float | None = None,
    accumulate: int = 1,
    callback: Any = None,
    history: History | None = None,
) -> History:
    """Train `params` in place, compiled, and return the course of the training.

    Every epoch passes over the rows in a new order, in batches; each batch makes one update

        v <- momentum v + g;    params <- params - lr (g + momentum_next v)        optimizer="nag"

    with the gradient `g` of the mean loss of the batch, and `momentum_next` the momentum of the next update (equal
    unless a schedule says otherwise).  "momentum" is `params - lr v`, "gd" is `params - lr g`; "adam", "adamw", "nadam"
    are `nagd_numba.adam_step`, ... with `beta1` the momentum and their other defaults.

    Parameters
    ----------
    params : array of shape (size,)
        Modified in place; of the model's dtype, contiguous.  In the memory of a CUDA device the training happens
        there, to the same bits (with `precision="tf32"`, to others; validation is float32 on the CPU then, too); `X`
        and `y` may then be there too, or are copied there once.
    X : array of shape (n, sizes[0])
        float32, float64 or uint8 (divided by 255) are read as they are, a batch at a time, so a memory-mapped
        `.npy` may be larger than memory (in C order); other real dtypes are converted at once.
    y : array
        As for `loss`.
    epochs : int
        Epochs in all, those in `history` included.
    batch_size : int
        Rows of a batch; the last of an epoch has the rest.
    lr, momentum : float, nagd_numba.schedules.Schedule, or function of the number of the update
        Finite, >= 0.
    progress : bool
        Show a bar.
    optimizer : {"nag", "momentum", "gd", "adam", "adamw", "nadam"}
        The last three in host memory only.  They want another `lr`: 0.001 is usual.
    vel : array of shape (size,), optional
        The velocity, modified in place; zeros by default.  With "adam", "adamw", "nadam" of shape (2 size,): `m`, then
        `v`.
    seed : int
        Decides the order of the rows, the dropout, and which rows a share for validation takes.
    shuffle : bool
        False: every epoch takes the rows as they are.
    sample_weight : array of shape (n,), optional
        Weights of the samples in the mean of a batch, finite, >= 0.
    validation : float, or (X, y), or (X, y, sample_weight), optional
        A share of the rows that is held back, or data of its own; evaluated after every epoch.
    metrics : sequence of {"accuracy", "mae", "mse"}
        Recorded for the training batches as they pass, and for the validation data.
    patience : int, optional
        Stop after so many epochs in which the watched loss (of the validation data, or without them of the
        training) was not below its best by more than `min_gain`.
    target_loss : float, optional
        Stop when the watched loss is at most this.
    time_budget : float, optional
        Stop after the epoch in which so many seconds have passed.
    keep : {"last", "best"}
        Which parameters to end with: the last ones, or those with the lowest watched loss (`vel` is the last one).
    clip : float, optional
        Gradients with a larger Euclidean norm are scaled down to it.
    accumulate : int
        Batches whose gradients make one update together, as if they were one batch.
    callback : function of the History, optional
        Called after every epoch; stops the training if it returns a true value.
    history : History, optional
        The history of a training to continue (with its `params`, `vel`, `seed` and everything else): what follows
        is bit for bit what would have followed without a break.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        For unfit arguments, before anything is written.
    KeyboardInterrupt
        Within about 0.1 s of Ctrl-C, between two updates; `params` and `vel` are then those of the last update.

    Notes
    -----
    Velocities below the smallest normal number are set to 0 (processors are slow with them); but for that, training
    is a loop of `value_and_grad` and `nagd_numba.step`, to the last bit.

    Equal arguments give equal bits: neither the number of threads, nor the progress bar, nor the load of the
    machine has any influence (but for `time_budget`).  The memory of a training is allocated once, before its
    first epoch.  A training whose loss is no longer finite stops, with a warning; `history.stopped` says why a
    training ended early.

    Examples
    --------
    >>> import nagd_numba
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> net = nagd_numba.MLP([1, 16, 1], activation="tanh", loss="mse")
    >>> params = net.init(0)
    >>> history = net.fit(params, X, X[:, 0] ** 2, epochs=200, batch_size=16, lr=0.1)
    >>> history.last("loss") < 1e-3
    True
    """
    start = time.perf_counter()
    validation.choice("optimizer", optimizer, OPTIMIZERS)
    rule, options = rule_of(optimizer)
    place = place_of(model, params, vel, states=len(rule.states))
    whole(epochs=epochs, batch_size=batch_size, accumulate=accumulate)
    number = int(arguments.seed("seed", seed))
    validation.choice("keep", keep, ("last", "best"))
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is {callback!r}; a function of the History is needed")
    wanted = checked_metrics(model, metrics)
    shuffle = validation.flag("shuffle", shuffle)
    rates = Rates(lr, momentum, optimizer, model.dtype)
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
        *(rule, options),
        accumulate=min(int(accumulate), len(parts.rows)),
        clip=largest,
        measure=bool(wanted),
    )
    trainer = place.trainer(parts, plan)
    order = parts.rows.copy()
    updates, steps = trainer.updates(len(order)), trainer.steps(len(order))
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
            values = described(sums, wanted, model)
            values |= {"lr": hyper[-1, 0], "momentum": hyper[-1, 1]}
            if parts.validation is not None:
                values |= validated(model, place.values(), parts, wanted)
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
            stacklevel=2,
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
