"""`nagd-numba train`: the options checked, the comparison run, and its results shown and written."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import textwrap
import time
from collections.abc import Callable
from typing import Any

from ..io.atomic import check_replaceable
from ..model_file import save_model
from . import checkpoint, launched, options, sources, train_report, verdict
from .checkpoint import Checkpoint
from .comparison import Comparison
from .compile_notice import compile_notice
from .config import Config
from .data import split
from .defaults import config_of
from .interrupts import Interrupts
from .output import check_plot, console, say, tell

NOT_BEGUN = "interrupted before training began; nothing to save"


def run(args: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    rank, _ = launched.place()
    interrupts: Interrupts = args.interrupts
    with launched.quiet(rank):
        try:
            comm = launched.world()
        except ValueError as error:
            with launched.quiet_errors(rank):
                return tell(f"nagd-numba train: error: {error}", 2)
        if interrupts.last is not None:
            interrupts.last = lambda: lambda: tell(NOT_BEGUN, interrupts.code)
        try:
            with launched.agreeing(comm) as said:
                config, run = _set_up(args, comm)
                if comm is not None:
                    said |= {"options": config, "data": checkpoint.digest(run.data), "epochs to continue": run.results}
        except (ValueError, OSError) as error:
            with launched.quiet_errors(rank):
                return tell(f"nagd-numba train: error: {error}", 2)
        except KeyboardInterrupt:
            return tell(NOT_BEGUN, interrupts.code)
        interrupts.run = run
        out = console()
        data = run.data
        if data.understood:
            say(data.understood)
        where = run.device if comm is None else f"{run.device}, {comm.size} processes"
        say(
            f"{data.name}: {len(data.X)} training and {len(data.X_validation)} validation rows, "
            f"{len(data.preprocessing.classes)} classes; network {'-'.join(map(str, run.model.sizes))}, {where}"
        )
        interrupted = False
        notice = compile_notice() if rank == 0 else contextlib.nullcontext()
        try:
            with notice, train_report.progress(out, run) as callbacks:

                def last() -> Callable[[], int]:
                    show = _finish(args, config, run, out, True)
                    callbacks.close()
                    return show

                if interrupts.last is not None:
                    interrupts.last = last
                run.run(_also_saving(args, run, callbacks.on_epoch), callbacks.on_batch)
            interrupts.ignore()  # a Ctrl-C while files are written must not leave half of one
        except KeyboardInterrupt:
            interrupted = True
        code = _finish(args, config, run, out, interrupted)()
    return interrupts.code if interrupted else code


def _set_up(args: argparse.Namespace, comm: Any) -> tuple[Config, Comparison]:
    """Check everything that can be checked before training."""
    if args.resume is None:
        saved = None
        config = config_of(args, {field.name: getattr(args, field.name) for field in dataclasses.fields(Config)})
    else:
        try:
            saved = Checkpoint(args.resume)
        except OSError as error:
            raise OSError(f"--resume {args.resume}: {(error.strerror or str(error)).lower()}") from error
        config = _resumed(saved, args)
        args.save = args.resume if args.save is None else args.save
    if comm is not None and comm.rank > 0:  # the first writes
        args.save = args.plot = None
    if args.save is not None:
        if not args.save.lower().endswith(".npz"):
            raise ValueError(f"--save {args.save}: a name that ends in .npz is needed")
        check_replaceable(args.save)
    if args.plot is not None:
        check_plot(args.plot)
        check_replaceable(args.plot)
    run = Comparison(split(sources.load(args), config.validation, config.seed, config.dtype), config, comm)
    if saved is not None:
        saved.restore(run)
    return config, run


def _resumed(saved: Checkpoint, args: argparse.Namespace) -> Config:
    """The configuration of a training to continue; options that would change its course are refused."""
    same = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    options.add_train(same)
    given = vars(same.parse_args(args.given[args.given.index(args.name) + 1 :]))
    free = ("epochs", "target", "device")
    for field in dataclasses.fields(Config):
        before = saved.config.values(field.name)
        if field.name in given and field.name not in free and [given[field.name]] != before:
            raise ValueError(
                f"--{field.name.replace('_', '-')} is {given[field.name]!r}, and {' or '.join(map(repr, before))} in "
                f"{args.resume}; "
                f"a training goes on as it began: leave it out (only --{', --'.join(free)} may change)"
            )
    sources.restore(args, saved.source)
    changes = {name: given[name] for name in free if name in given}
    return dataclasses.replace(saved.config, **changes)


def _finish(
    args: argparse.Namespace, config: Config, run: Comparison, out: Any, interrupted: bool
) -> Callable[[], int]:
    """Write what was reached; the function that shows it returns the exit code.

    Nobody may be left to see it, after the signal that says so.
    """
    saved = _saved(args, run)
    return lambda: _show(args, config, run, out, interrupted, *saved)


def _show(
    args: argparse.Namespace, config: Config, run: Comparison, out: Any, interrupted: bool, code: int, saved: str
) -> int:
    done = [result for result in run.results if result.history]
    if interrupted:
        last = done[-1] if done else None
        reached = f"after epoch {last.history[-1].number} of {last.method}" if last else "before the first epoch ended"
        print(f"Interrupted {reached}.")
    if saved:
        tell(saved, code) if code else say(saved)
    if done:
        out.print(train_report.table(done, run.best, config))
        say(textwrap.fill(verdict.sentence(done, config), out.width))
    if args.plot is not None:
        if done:
            try:
                train_report.plot(args.plot, done, config)
                say(f"Plot: {args.plot}")
            except OSError as error:
                code = tell(f"nagd-numba train: error: --plot: {error}", 1)
        else:
            print("Nothing to plot.")
    if done and not interrupted:
        say(verdict.next_lines(args, config))
    return code


def _also_saving(args: argparse.Namespace, run: Comparison, on_epoch: Any) -> Any:
    """`on_epoch`, before which the state of the training is saved, if it was not within the last half second."""
    if args.save is None:
        return on_epoch
    last = -math.inf

    def both(result: Any, epoch: Any) -> None:
        nonlocal last
        if run.best is not None and time.monotonic() - last > 0.5:
            run.committing = True  # an interrupt waits: it ends in writing the file again
            with contextlib.suppress(OSError):  # told at the end, if it is still so
                _write(args, run)
            run.committing = run.comm is not None
            last = time.monotonic()
        on_epoch(result, epoch)  # last: the reader of what it prints may be gone

    return both


def _write(args: argparse.Namespace, run: Comparison) -> None:
    best = run.best
    assert best is not None
    save_model(
        args.save,
        run.model,
        best.params,
        run.data.preprocessing,
        method=best.method,
        epoch=best.epoch.number,
        accuracy=best.epoch.validation_accuracy,
        training=checkpoint.content(run, sources.source(args)),
    )


def _saved(args: argparse.Namespace, run: Comparison) -> tuple[int, str]:
    """Write the best model and the training; returns the exit code, and what is to be said."""
    if args.save is None:
        return 0, ""
    if run.best is None:
        why = "no epoch ended" if not any(result.history for result in run.results) else "every method diverged"
        return 0, f"Nothing to save: {why}."
    try:
        _write(args, run)
    except OSError as error:
        return 1, f"nagd-numba train: error: --save: {error}"
    return 0, f"Best model: {args.save}"
