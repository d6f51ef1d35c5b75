"""Which learning rate, and momentum, each method of `nagd-numba train` has by default, and what these give.

    python -m benchmarks.defaults
    python -m benchmarks.defaults --batch-size 32 --methods gd,momentum,nag

The rule: a method has the pair of the grid below whose mean train loss after the last epoch is lowest over `--seeds`
trainings of the digits, each with its own initial weights, rows held back, batches and dropout; a training that is not
finite counts as infinite.  All else is as `nagd-numba train` has it.  What the pairs give is then measured on as many
other seeds, which had no part in the choice.  The choice stands in `nagd_numba/cli/defaults.py`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import warnings
from collections.abc import Iterable
from typing import NamedTuple

from nagd_numba.cli.comparison import Result, compare
from nagd_numba.cli.config import Config
from nagd_numba.cli.data import load_digits, split
from nagd_numba.cli.defaults import BATCH_SIZE
from nagd_numba.optimizers.registry import METHODS

RATES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
MOMENTA = (0.8, 0.9, 0.95, 0.98, 0.99)
ADAM_RATES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # of all others


class Pair(NamedTuple):
    """A learning rate, and a momentum where the method takes it from the command line."""

    lr: float
    momentum: float | None


def grid(method: str) -> Iterable[Pair]:
    """The pairs that a method is tried with."""
    if METHODS[method].lr != "lr":
        return [Pair(lr, None) for lr in ADAM_RATES]
    if METHODS[method].momentum is None:
        return [Pair(lr, None) for lr in RATES]
    return itertools.starmap(Pair, itertools.product(RATES, MOMENTA))


def trained(method: str, pair: Pair, seed: int, batch_size: int, epochs: int) -> Result:
    """One training, as `nagd-numba train` does it."""
    numbers = {METHODS[method].lr: pair.lr} | ({} if pair.momentum is None else {"momentum": pair.momentum})
    config = Config(methods=(method,), seed=seed, batch_size=batch_size, epochs=epochs, device="cpu", **numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflow, where a training diverges
        return compare(split(load_digits(), config.validation, seed, config.dtype), config)[0]


def loss(results: Iterable[Result]) -> float:
    """The mean of the last train losses, infinite where one is not finite."""
    losses = [result.history[-1].train_loss for result in results]
    return statistics.fmean(losses) if all(map(math.isfinite, losses)) else math.inf


def described(results: list[Result], target: float, epochs: int) -> str:
    """The mean of the losses, their spread, the accuracy, and the epochs to the target."""
    losses = [result.history[-1].train_loss for result in results]
    right = [100 * result.history[-1].validation_accuracy for result in results]
    reached = [result.epochs_to(target) for result in results]
    late = sum(epoch is None for epoch in reached)
    shown = f"{statistics.fmean(epoch or epochs for epoch in reached):5.1f}" + (f" ({late} never)" if late else "")
    return f"{loss(results):8.4f} {min(losses):8.4f} {max(losses):8.4f} {statistics.fmean(right):8.2f} {shown}"


def main() -> None:
    """Print the choice for each method, and what it gives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    print(f"batches of {args.batch_size}, {args.epochs} epochs; seeds 0 to {args.seeds - 1} choose, the rest are told")
    headings = ("lr", "momentum", "loss", "lowest", "highest", "accuracy")
    print(f"{'method':9} {' '.join(f'{heading:>8}' for heading in headings)} epochs to 95 %")
    for method in args.methods.split(","):
        losses = {
            pair: loss(trained(method, pair, seed, args.batch_size, args.epochs) for seed in range(args.seeds))
            for pair in grid(method)
        }
        best = min(losses, key=losses.__getitem__)
        others = range(args.seeds, 2 * args.seeds)
        results = [trained(method, best, seed, args.batch_size, args.epochs) for seed in others]
        momentum = "-" if best.momentum is None else f"{best.momentum:g}"
        print(f"{method:9} {best.lr:8g} {momentum:>8} {described(results, 95.0, args.epochs)}", flush=True)


if __name__ == "__main__":
    main()
