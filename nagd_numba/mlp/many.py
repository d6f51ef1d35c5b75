"""`fit_many`: many networks of one shape trained at once, one to a core."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from ..history import History
from ..optimizers.average import Average
from ..optimizers.seeds import seed_of
from ..schedules import Progress
from ..validation import choice, flag, function, prefixed, whole
from . import clipping
from .arguments import bad_element
from .averages import averaged_backend, averaged_rule
from .backends import backend_of
from .epochs import Order, train_ahead, train_epochs
from .labels import Labels
from .metrics import checked_metrics, measured
from .model import MLP
from .plan import Plan
from .progress import ProgressBar, telling
from .rates import OPTIMIZERS, Rates, rule_of
from .stopping import DIVERGED, not_finite, wants_end


@prefixed("fit_many")
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
    rng: Any = None,
    shuffle: bool = True,
    sample_weight: Any = None,
    validation: Any = None,
    metrics: Sequence[str] = (),
    clip: float | None = None,
    accumulate: int = 1,
    callback: Callable[[list[History]], Any] | None = None,
    label_smoothing: float = 0.0,
    class_weight: Any = None,
    average: Average | None = None,
) -> list[History]:
    """Train many networks of one shape at once, in place, each as `MLP.fit` would alone, to the last bit.

    All are trained for all epochs: a schedule that would end a training alone, or a loss that is not finite, ends none.

    Network `m` is row `m` of `params2d`, with its own `lr[m]`, `momentum[m]` and `seed[m]`: a sweep over rates, or an
    ensemble.  Each core trains a network of its own, and all read the same data.

    Parameters
    ----------
    mlp : MLP
    params2d : array of shape (M, mlp.size)
        Modified in place; of the model's dtype, C-contiguous.  On a CUDA device each network has a thread block;
        validation and metrics are made there, too.
    lr, momentum : what `MLP.fit` takes, or a sequence of M of that
    seed : int, or a sequence of M ints
        With a share of the rows for validation the seeds must be equal: all networks have the same rows.
    rng : optional
        In place of `seed`: what `numpy.random.default_rng` takes. A seed s is drawn from it, and network m has s + m
        (modulo 2^64), or s where a share of the rows is for validation.
    vel : array of shape (M, states * mlp.size), optional
        The states of the optimizer, a row for each network as `MLP.fit` has them, modified in place; zeros by default.
    callback : function of the list of histories, optional
        Called after every epoch; returns True to stop the training, else False or None.
    X, y, epochs, batch_size, optimizer, shuffle, sample_weight, validation, metrics, clip, accumulate, progress
        As for `MLP.fit`, the same for all networks.
    label_smoothing, class_weight
        As for `MLP.fit`, the same for all networks.
    average : nagd_numba.Average, optional
        Of `params2d`, and where that is: a row for each network, as for `MLP.fit`.

    Returns
    -------
    list of M `History`
        `stopped` is "diverged" for a network of which a loss, the parameters or the states were not finite at the end.

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
    spec = mlp.spec
    choice("optimizer", optimizer, OPTIMIZERS)
    rule, options = rule_of(optimizer)
    trained = rule if average is None else averaged_rule(rule)
    if average is None:
        backend = backend_of(spec, params2d, vel, many=True, states=len(rule.states))
    else:
        backend = averaged_backend(spec, params2d, vel, True, len(rule.states), average)
    networks = backend.networks
    epochs = whole("epochs", epochs)
    batch_size, accumulate = whole("batch_size", batch_size), whole("accumulate", accumulate)
    function("callback", callback, "the list of histories")
    shuffle = flag("shuffle", shuffle)
    wanted = checked_metrics(spec, metrics)
    if rng is None:
        seeds = [whole("seed", x, 0, 1 << 64) for x in _each("seed", seed, networks)]
    else:
        drawn = seed_of(seed, rng)
        share = not isinstance(validation, tuple | list | None)
        seeds = [drawn] * networks if share else [(drawn + m) % (1 << 64) for m in range(networks)]
    rates = [
        Rates(own_lr, own_momentum, optimizer, spec.dtype)
        for own_lr, own_momentum in zip(_each("lr", lr, networks), _each("momentum", momentum, networks), strict=True)
    ]
    largest = clipping.limit(clip, spec.dtype)
    if not isinstance(validation, tuple | list | None) and len(set(seeds)) > 1:
        raise ValueError("validation is a share of the rows, which depends on the seed, and seed differs; give (X, y)")
    labels = Labels.checked(spec, label_smoothing, class_weight)
    parts = backend.split(X, y, sample_weight, validation, seeds[0] if seeds else 0, labels)
    if networks == 0:
        return []

    rows = len(parts.rows)
    plan = Plan.of(spec, rows, batch_size, accumulate, trained, options, clip=largest, measure=bool(wanted))
    trainer = backend.trainer(parts, plan)
    evaluate = None if parts.validation is None else backend.evaluation(parts, plan)
    # Where somebody looks at the parameters after each epoch, the next one cannot begin before.
    ahead = backend.asynchronous and callback is None and evaluate is None and all(own.foreseeable for own in rates)
    ahead = ahead and rule.interpolated is None
    train = train_ahead if ahead else train_epochs
    histories = [History() for _ in range(networks)]

    def reached(past: History) -> Progress:
        held_out = None if evaluate is None else past.values("validation_loss")
        return Progress(plan.updates(rows), rows, past.values("loss"), held_out)

    before: list[np.ndarray] = []  # the hyper-parameters of the first epoch, if they are constant

    def hyper(epoch: int) -> np.ndarray:
        updates = plan.updates(rows)
        if before:
            return rates[0].counted(before[0], epoch * updates)
        made = np.stack(
            [own.of_epoch(epoch * updates, reached(past)) for own, past in zip(rates, histories, strict=True)]
        )
        if all(own.constant for own in rates):
            made.flags.writeable = False  # so that who sees it again need not compare it
            before.append(made)
        return made

    bar = ProgressBar(flag("progress", progress), epochs * plan.steps(rows), epochs)
    with bar, telling(params2d, vel, getattr(average, "value", None)):
        order = Order(parts.rows, seeds, shuffle)
        with closing(train(trainer, range(epochs), order, hyper, np.array(seeds, np.uint64), bar.steps)) as every:
            for done in every:
                sums, last = done.sums.tolist(), done.hyper[:, -1].tolist()
                evaluated = [None] * networks if evaluate is None else evaluate().tolist()
                seconds = time.perf_counter() - start
                for m, past in enumerate(histories):
                    past.append(measured(spec, sums[m], rates[m].recorded(last[m]), wanted, evaluated[m]))
                    past.seconds = seconds
                bar.epoch(histories[0])
                if callback is not None and wants_end(callback(histories)):
                    for past in histories:
                        past.stopped = "callback"
                    break
    flat, states = backend.values(), backend.states()
    found = {m: not_finite(past, bad_element(flat[m]), bad_element(states[m])) for m, past in enumerate(histories)}
    diverged = [m for m in found if found[m]]
    for m in diverged:
        histories[m].stopped = DIVERGED
    if diverged:
        warnings.warn(
            f"{len(diverged)} of {networks} trainings diverged: networks {', '.join(map(str, diverged[:10]))}"
            f"{', ...' if len(diverged) > 10 else ''}; of network {diverged[0]} {', '.join(found[diverged[0]])}",
            RuntimeWarning,
            stacklevel=3,
        )
    return histories


def _each(name: str, x: Any, networks: int) -> list[Any]:
    """`x` for each network: a sequence of that length, or one value for all."""
    if isinstance(x, str | bytes) or not (isinstance(x, Sequence) or (isinstance(x, np.ndarray) and x.ndim)):
        return [x] * networks
    if len(x) != networks:
        raise ValueError(f"{name} has {len(x)} values and there are {networks} networks; one for each is needed")
    return list(x)
