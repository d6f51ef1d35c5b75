"""`MLP.fit`: the arguments, the validation, and when a training ends or goes on."""

from __future__ import annotations

import math
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
from .averages import averaged_backend, averaged_rule
from .epochs import Order, train_ahead, train_epochs
from .labels import Labels
from .metrics import checked_metrics, columns, measured
from .plan import Plan
from .progress import ProgressBar, telling
from .ranks import ranks_of
from .rates import OPTIMIZERS, Rates, rule_of
from .spec import NetworkSpec
from .stopping import DIVERGED, Limits, advice, not_finite, wants_end


class Trainable:
    """The part of `MLP` that trains."""

    spec: NetworkSpec

    @prefixed("MLP.fit")
    def fit(
        self,
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
        rng: Any = None,
        shuffle: bool = True,
        sample_weight: Any = None,
        validation: Any = None,
        metrics: Sequence[str] = (),
        patience: int | None = None,
        min_gain: float = 0.0,
        target_loss: float | None = None,
        time_budget: float | None = None,
        keep: str = "last",
        clip: float | None = None,
        accumulate: int = 1,
        callback: Callable[[History], Any] | None = None,
        history: History | None = None,
        comm: Any = None,
        reproducible: bool = False,
        micro_batches: int = 8,
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        average: Average | None = None,
    ) -> History:
        """Train `params` in place, compiled, and return the course of the training.

        Every epoch passes over the rows in a new order, in batches; each batch makes one update

            v <- momentum v + g;    params <- params - lr (g + momentum_next v)        optimizer="nag"

        with the gradient `g` of the mean loss of the batch, and `momentum_next` the momentum of the next update (equal
        unless a schedule says otherwise).  "momentum" is `params - lr v`, "gd" is `params - lr g`; "adam", "adamw" and
        "nadam" are `nagd_numba.adam_step`, ... with `beta1` the momentum and their other defaults; the others likewise.

        Parameters
        ----------
        params : array of shape (size,)
            Modified in place; of the model's dtype, contiguous.  In the memory of a CUDA device the training happens
            there, to the same bits (with `precision="tf32"`, to others; its validation is float32), with validation and
            metrics; `X`, `y` and the data for validation may then be there too, or are copied there once.
        X : array of shape (n, sizes[0])
            float32, float64 or uint8 (divided by 255) are read as they are, a batch at a time, so a memory-mapped
            `.npy` may be larger than memory (in C order); other real dtypes are converted at once.  A sparse matrix or
            array of SciPy is not made dense: the first layer works on its stored values (in CSR format, to which others
            are converted), in host memory and without `comm` and `reproducible`.  The bits are those of the dense
            X, but for the sign of a 0 where a product underflows.  (`predict` and the others take dense rows.)
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
        optimizer : str
            "nag", "momentum", "gd", "adam", "adamw", "nadam", "lion", "rmsprop", "adagrad", "schedule_free_sgd" or
            "schedule_free_adamw".
            All but the first three and "schedule_free_sgd" want another `lr`: 0.001 is usual, for "lion" a tenth of it.
            With a schedule-free one the parameters are its `x` between epochs, for the validation, `keep`, the callback
            and in the end, and its `y` in them (`schedule_free_eval`, `schedule_free_train`); a schedule of `lr` does
            not change the weights of its average, and `momentum` is one number.
        vel : array of shape (states * size,), optional
            The states of the optimizer, one after the other, modified in place; zeros by default.  That is the
            velocity, with "adam", "adamw", "nadam" `m`, then `v`.
        seed : int
            Decides the order of the rows, the dropout, and which rows a share for validation takes.
        rng : optional
            In place of `seed`: what `numpy.random.default_rng` takes, from which a seed is drawn.
        shuffle : bool
            False: every epoch takes the rows as they are.
        sample_weight : array of shape (n,), optional
            Weights of the samples in the mean of a batch, finite, >= 0; the loss and the metrics in the history are
            weighted means.
        validation : float, or (X, y), or (X, y, sample_weight), optional
            A share of the rows that is held back, or data of its own; evaluated after every epoch.  Its loss and
            metrics are weighted means, too.
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
            Gradients with a larger Euclidean norm are scaled down to it, however large they are; at least 1.2e-38 for
            float32 and 1.5e-154 for float64.
        accumulate : int
            Batches whose gradients make one update together, as if they were one batch.
        callback : function of the History, optional
            Called after every epoch; returns True to stop the training, else False or None.
        history : History, optional
            The history of a training to continue (with its `params`, `vel`, `seed` and everything else): what follows
            is bit for bit what would have followed without a break.
        comm : mpi4py.MPI.Intracomm, torch.distributed.ProcessGroup, or `distributed.communicator` of one, optional
            All of its ranks call `fit` with the same arguments, and train one network together: each computes the
            gradient of its part of every batch, and keeps 1/N of the states (`distributed.ShardedStep`).  In host
            memory only.  `params` and the History are equal on all ranks; the bar and the warning are those of rank 0.
        reproducible : bool
            Add up the gradients of a batch in an order that does not depend on the number of ranks: equal bits for any
            number of them, also without `comm`.
        micro_batches : int
            With `reproducible`: the parts of a batch that are added up in that order, at most the rows of a batch.  The
            bits depend on it; ranks beyond it have no part in the gradients.

        label_smoothing : float
            For cross_entropy, in [0, 1): targets become `(1 - label_smoothing) y + label_smoothing / outputs`, those of
            the validation too; labels then take the memory of probabilities.
        class_weight : {"balanced"} or dict from classes to weights, optional
            Where y has a class for each sample: its weight multiplies `sample_weight`, also in a share for validation.
            Finite, >= 0, 1 for classes not in the dict.  "balanced": the weight of all samples, divided by that of the
            class and by the number of classes in y, as in scikit-learn.
        average : nagd_numba.Average, optional
            An average of the parameters, made by `nagd_numba.Average(params)`, which every update takes into account,
            as `average=` of a step does (but that numbers below the smallest normal one become 0).  The validation is
            that of the average, and with `keep="best"` the average is the one with the lowest watched loss in the end;
            `params` are the last ones.  For `params` on a CUDA device it is there, too, with the host's bits.  Without
            `comm` and `reproducible`, and not with an optimizer that is schedule-free.

        Returns
        -------
        History

        Raises
        ------
        TypeError, ValueError
            For unfit arguments, before anything is written: also where X, y, `params`, `vel`, `sample_weight` or the
            data for validation are not finite (in the model's dtype), and where data share memory with what is trained.
        KeyboardInterrupt
            Within about 0.1 s of Ctrl-C, between two updates; `params` and `vel` are then those of the last update.

        Notes
        -----
        Velocities below the smallest normal number are set to 0 (processors are slow with them); but for that, training
        is a loop of `value_and_grad` and `nagd_numba.step`, to the last bit.

        Equal arguments give equal bits: neither the number of threads, nor the progress bar, nor the load of the
        machine has any influence (but for `time_budget`).  The memory of a training is allocated once, before its
        first epoch.  A training whose loss is no longer finite stops, with a warning that names what is not finite
        (the loss, that of the validation, `params`, `vel`); so does one that ends with such `params` or `vel`.
        `history.stopped` says why a training ended early.  The check of X reads it once, on the host, before the first
        epoch.

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
        spec = self.spec
        ranks = ranks_of(comm, reproducible, micro_batches)
        with ranks.checked() as said:
            choice("optimizer", optimizer, OPTIMIZERS)
            rule, options = rule_of(optimizer)
            if average is None:
                backend, trained = ranks.backend(spec, params, vel, optimizer), rule
            else:
                ranks.check_average()
                trained = averaged_rule(rule)
                backend = averaged_backend(spec, params, vel, False, len(rule.states), average)
            epochs, seed = whole("epochs", epochs), seed_of(seed, rng)
            batch_size, accumulate = whole("batch_size", batch_size), whole("accumulate", accumulate)
            choice("keep", keep, ("last", "best"))
            function("callback", callback, "the History")
            wanted = checked_metrics(spec, metrics)
            shuffle = flag("shuffle", shuffle)
            rates = Rates(lr, momentum, optimizer, spec.dtype)
            largest = clipping.limit(clip, spec.dtype)
            limits = Limits(patience, min_gain, target_loss, time_budget)
            labels = Labels.checked(spec, label_smoothing, class_weight)
            parts = backend.split(X, y, sample_weight, validation, seed, labels)
            past = History() if history is None else history
            if not isinstance(past, History):
                raise TypeError(f"history is {history!r}; the History of a training is needed")
            if past.epochs:
                _continues(past, columns(wanted, parts), vel, optimizer, keep)
            shown = flag("progress", progress)
            rows = len(parts.rows)
            plan = Plan.of(spec, rows, batch_size, accumulate, trained, options, clip=largest, measure=bool(wanted))
            ranks.check_batch(plan.batch)
            said |= {
                **{"network": self, "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "seed": seed},
                **{"shuffle": shuffle, "metrics": wanted, "keep": keep, "clip": clip, "accumulate": accumulate},
                **{"patience": patience, "min_gain": min_gain, "target_loss": target_loss, "history": past.to_dict()},
            }
            said |= ranks.digests(parts, vel)
        past.stopped = None
        trainer = backend.trainer(parts, plan)
        validated = parts.validation is not None
        evaluate = backend.evaluation(parts, plan, ranks.comm) if validated else None
        best = math.inf
        # Where somebody looks at the parameters after each epoch, the next one cannot begin before.
        ahead = backend.asynchronous and callback is None and not validated and keep == "last" and rates.foreseeable
        ahead = ahead and rule.interpolated is None
        train = train_ahead if ahead else train_epochs
        before = past.seconds

        seen = Progress(plan.updates(rows), rows)

        def reached() -> Progress:
            if rates.foreseeable:
                return seen
            held_out = past.values("validation_loss") if validated else None
            return Progress(plan.updates(rows), rows, past.values("loss"), held_out)

        def hyper(epoch: int) -> np.ndarray:
            return rates.of_epoch(epoch * plan.updates(rows), reached())

        remaining = range(past.epochs, epochs)
        bar = ProgressBar(shown and ranks.first, len(remaining) * plan.steps(rows), epochs)
        with bar, telling(params, vel, getattr(average, "value", None)), ranks.threads():
            order = Order(parts.rows, seed, shuffle)
            with closing(train(trainer, remaining, order, hyper, np.uint64(seed), bar.steps)) as every:
                for done in every:
                    evaluated = None if evaluate is None else evaluate().tolist()
                    last = rates.recorded(done.hyper[-1].tolist())
                    past.append(measured(spec, done.sums.tolist(), last, wanted, evaluated))
                    past.seconds = ranks.of_first(before + time.perf_counter() - start)
                    bar.epoch(past)
                    watched = past.last("validation_loss" if validated else "loss")
                    if keep == "best" and watched < best and backend.remember():
                        best = watched
                    past.stopped = limits.reached(past, validated, rates.lr.ended(reached()))
                    if ranks.any(lambda: callback is not None and wants_end(callback(past))) and past.stopped is None:
                        past.stopped = "callback"
                    if past.stopped is not None:
                        break
            found = not_finite(past, *backend.not_finite()) if remaining else []
            if keep == "best" and math.isfinite(best):
                backend.restore()
        if found:
            past.stopped = DIVERGED
        if found and ranks.first:
            warnings.warn(
                f"training diverged in epoch {past.epochs}: {', '.join(found)}; {advice(found)}",
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
