"""What a comparison came to, in a sentence, and what to try next."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Iterable, Sequence

from ..optimizers.registry import METHODS
from .comparison import Result
from .config import Config
from .defaults import PAIRS

EQUAL = 1.1  # losses within this factor are told as about equal: other seeds may turn them round


def sentence(results: Sequence[Result], config: Config) -> str:
    """What was compared, and what came out."""
    same = "from the same weights, with the same batches and dropout"
    ended = [result for result in results if result.history and not result.diverged]
    if not ended:
        return f"All methods ran {same}, and each diverged."
    ended.sort(key=lambda result: result.history[-1].train_loss)
    best, *others = ended
    least = best.history[-1].train_loss
    behind = [result for result in results if result.history and result not in ended]
    told = [_behind(result, least) for result in others] + [f"{result.method} diverged" for result in behind]
    reached = [(epoch, result.method) for result in ended if (epoch := result.epochs_to(config.target)) is not None]
    text = f"Trained {same}{_numbers(results, config)}, {best.method} "
    text += f"ends with the lowest train loss: {_listed(told)}" if told else f"ends with a train loss of {least:.4f}"
    if reached:
        epochs = _listed(f"{method} {epoch}" for epoch, method in sorted(reached))
        text += f"; epochs until {config.target:g} % of the validation rows are right: {epochs}"
    return text + "."


def _behind(result: Result, least: float) -> str:
    ratio = result.history[-1].train_loss / least if least > 0 else math.inf
    much = f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"
    return f"that of {result.method} is {f'{much} times as high' if ratio >= EQUAL else 'about the same'}"


def _numbers(results: Sequence[Result], config: Config) -> str:
    """Which learning rates and momenta were compared."""
    if len(results) < 2:
        return ""
    methods = [result.method for result in results]
    pairs = [config.pair(method) for method in methods]
    if config.pairs and all(config.pair(method) == PAIRS.get(method) for method in methods):
        return ", each method at its own best learning rate and momentum of a grid"
    if len({lr for lr, _ in pairs}) == len({momentum for _, momentum in pairs if momentum is not None}) == 1:
        return ", all at the same learning rate and momentum"
    return ", at the learning rates and momenta of the table"


def next_commands(args: argparse.Namespace, config: Config) -> list[tuple[str, str]]:
    """Commands to try after this one, and what each is for."""
    command = "nagd-numba train"
    own = "" if args.data is None else f" --data {shlex.quote(args.data)}"
    tries = []
    if {"nag", "adam"} - set(config.methods):
        tries.append((f"{command}{own} --methods nag,adam,lion", f"other methods, of {len(METHODS)}"))
    if not own:
        tries.append((f"{command} --lr 0.1", "the same learning rate for all"))
    tries.append((f"{command}{own} --seed {config.seed + 1}", "how much of the differences is chance"))
    if own:
        tries.append((f"nagd-numba sweep{own}", "which learning rate and momentum suit these rows"))
    else:
        tries.append((f"{command} --data rows.csv", "your rows, with the label in the last column"))
    return tries


def next_lines(args: argparse.Namespace, config: Config) -> str:
    """The same as text."""
    tries = next_commands(args, config)
    width = max(len(command) for command, _ in tries)
    return "\n".join(["Next:", *(f"  {command:{width}}  {what}" for command, what in tries)])


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
