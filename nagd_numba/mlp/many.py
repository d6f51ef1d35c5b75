"""`fit_many`: many networks of one shape trained at once, one to a core."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..history import History
from ..schedules import Progress
from ..validation import choice, positive, whole
from . import arguments
from .backends import place_of
from .cpu.trainer import shuffled
from .metrics import checked_metrics, described, validated
from .model import MLP
from .plan import Normalization, Plan
from .progress import ProgressBar, telling
from .rates import NAG, Rates, rule_of
from .stopping import DIVERGED


def fit_many(
    mlp: MLP,
    params2d: Any,
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
    seed: Any = 0,
    shuffle: bool = True,
    sample_weight: Any = None,
    validation: Any = None,
    metrics: Sequence[str] = (),
    clip: float | None = None,
    accumulate: int = 1,
    callback: Callable[[list[History]], Any] | None = None,
) -> list[History]:
    """Train many networks of one shape at once, in place, each as `MLP.fit` would alone, to the last bit.

    All are trained for all epochs: a schedule that would end a training alone, or a loss that is not finite, ends none.

    Network `m` is row `m` of `params2d`, with its own `lr[m]`, `momentum[m]` and `seed[m]`: a sweep over rates, or an
    ensemble.  Each core trains a network of its own, and all read the same data.

    Parameters
    ----------
    mlp : MLP
    params2d : array of shape (M, mlp.size)
        Modified in place; of the model's dtype, C-contiguous.  On a CUDA device each network has a thread block.
    lr, momentum : what `MLP.fit` takes, or a sequence of M of that
    seed : int, or a sequence of M ints
        With a share of the rows for validation the seeds must be equal: all networks have the same rows.
    vel : array of shape (M, mlp.size), optional
        The velocities, modified in place; zeros by default.
    callback : function of the list of histories, optional
        Called after every epoch; stops the training if it returns a true value.
    X, y, epochs, batch_size, optimizer, shuffle, sample_weight, validation, metrics, clip, accumulate, progress
        As for `MLP.fit`, the same for all networks.

    Returns
    -------
    list of M `History`
        `stopped` is "diverged" for a network whose loss was not finite at the end.

    Raises
    ------
    TypeError, ValueError
        For unfit arguments, before anything is written.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> net = MLP([1, 8, 1], activation="tanh", loss="mse")
    >>> params = np.stack([net.init(seed) for seed in range(3)])
    >>> histories = fit_many(net, params, X, X[:, 0] ** 2, epochs=5, lr=[0.01, 0.03, 0.1])
    >>> [round(h.last("lr"), 2) for h in histories]
    [0.01, 0.03, 0.1]
    """
    start = time.perf_counter()
    place = place_of(mlp.spec, params2d, vel, many=True)
    networks = place.networks
    whole(epochs=epochs, batch_size=batch_size, accumulate=accumulate)
    choice("optimizer", optimizer, NAG)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is {callback!r}; a function of the list of histories is needed")
    wanted = checked_metrics(mlp.spec, metrics)
    seeds = [int(arguments.seed("seed", x)) for x in _each("seed", seed, networks)]
    rates = [
        Rates(own_lr, own_momentum, optimizer, mlp.dtype)
        for own_lr, own_momentum in zip(_each("lr", lr, networks), _each("momentum", momentum, networks), strict=True)
    ]
    largest = math.inf if clip is None else positive("clip", clip)
    if not isinstance(validation, tuple | list | None) and len(set(seeds)) > 1:
        raise ValueError("validation is a share of the rows, which depends on the seed, and seed differs; give (X, y)")
    parts = place.split(X, y, sample_weight, validation, seeds[0] if seeds else 0)
    if networks == 0:
        return []

    plan = Plan(
        min(int(batch_size), len(parts.rows)),
        Normalization.mean(mlp.spec),
        *rule_of(optimizer),
        accumulate=min(int(accumulate), len(parts.rows)),
        clip=largest,
        measure=bool(wanted),
    )
    trainer = place.trainer(parts, plan)
    orders = np.tile(parts.rows, (networks, 1))
    updates, steps = plan.updates(len(parts.rows)), plan.steps(len(parts.rows))
    words = np.array(seeds, np.uint64)
    histories = [History() for _ in range(networks)]
    with ProgressBar(progress, epochs * steps, epochs) as told, telling(params2d, vel):
        for epoch in range(epochs):
            if shuffle:
                for order, number in zip(orders, seeds, strict=True):
                    shuffled(order, parts.rows, number, epoch)
            hyper = np.stack(
                [
                    own.of_epoch(epoch * updates, Progress(updates, len(parts.rows), past.values("loss")))
                    for own, past in zip(rates, histories, strict=True)
                ]
            )
            sums = trainer.epoch(orders, hyper, words, epoch * steps, told.steps)
            flat = place.values() if parts.validation is not None else None
            for m, past in enumerate(histories):
                values = described(sums[m], wanted, mlp.spec)
                values |= {"lr": hyper[m, -1, 0], "momentum": hyper[m, -1, 1]}
                if flat is not None:
                    values |= validated(mlp.spec, flat[m], parts, wanted)
                past.append(values)
                past.seconds = time.perf_counter() - start
            told.epoch(histories[0])
            if callback is not None and callback(histories):
                for past in histories:
                    past.stopped = "callback"
                break
    diverged = [m for m, past in enumerate(histories) if not math.isfinite(past.last("loss"))]
    for m in diverged:
        histories[m].stopped = DIVERGED
    if diverged:
        warnings.warn(
            f"{len(diverged)} of {networks} trainings diverged: networks {', '.join(map(str, diverged[:10]))}"
            f"{', ...' if len(diverged) > 10 else ''}",
            RuntimeWarning,
            stacklevel=2,
        )
    return histories


def _each(name: str, x: Any, networks: int) -> list[Any]:
    """`x` for each network: a sequence of that length, or one value for all."""
    if isinstance(x, str | bytes) or not (isinstance(x, Sequence) or (isinstance(x, np.ndarray) and x.ndim)):
        return [x] * networks
    if len(x) != networks:
        raise ValueError(f"{name} has {len(x)} values and there are {networks} networks; one for each is needed")
    return list(x)
