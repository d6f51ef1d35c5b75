"""The command `nagd-numba`.

Exit codes: 0; 1 where a result could not be written; 2 for what the user can correct, told in one line before
anything is trained; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import __version__
from . import options
from .config import Config
from .interrupts import catching_interrupts
from .sweep_config import SweepConfig

if TYPE_CHECKING:
    from .sweep import Sweep
    from .train import Comparison

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        args = _parser().parse_args(given)
        args.given = given
    except SystemExit as end:  # --help, --version, or a usage error that argparse has told
        return int(end.code or 0)
    try:
        return int(args.command(args))
    except KeyboardInterrupt:
        return _tell(f"nagd-numba {args.name}: interrupted", INTERRUPTED)
    except MemoryError as error:
        return _tell(f"nagd-numba {args.name}: error: not enough memory {error}".rstrip(), 2)
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _train(args: argparse.Namespace) -> int:
    with catching_interrupts() as interrupts:
        try:
            config, run = _set_up(args)
        except (ValueError, OSError) as error:
            return _tell(f"nagd-numba train: error: {error}", 2)
        except KeyboardInterrupt:
            return _tell("interrupted before training began; nothing to save", INTERRUPTED)
        interrupts.run = run
        from . import train_report

        out = train_report.console()
        data = run.data
        print(
            f"{data.name}: {len(data.X)} training and {len(data.X_validation)} validation rows, "
            f"{len(data.preprocessing.classes)} classes; network {'-'.join(map(str, run.model.sizes))}, {run.device}",
            flush=True,
        )
        interrupted = False
        try:
            with train_report.progress(out, run) as callbacks:
                run.run(_also_saving(args, run, callbacks.on_epoch), callbacks.on_batch)
        except KeyboardInterrupt:
            interrupted = True
        interrupts.ignore()  # a Ctrl-C while files are written must not leave half of one
        code = _finish(args, config, run, out, interrupted)
    return INTERRUPTED if interrupted else code


def _set_up(args: argparse.Namespace) -> tuple[Config, Comparison]:
    """Check everything that can be checked before training."""
    from ..io.atomic import check_replaceable
    from . import train_report
    from .checkpoint import Checkpoint
    from .data import load_digits, load_file, split
    from .train import Comparison

    if args.resume is None:
        checkpoint = None
        config = Config(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Config)})
    else:
        try:
            checkpoint = Checkpoint(args.resume)
        except OSError as error:
            raise OSError(f"--resume {args.resume}: {(error.strerror or str(error)).lower()}") from error
        config = _resumed(checkpoint, args)
        args.save = args.resume if args.save is None else args.save
    if args.label is not None and args.data is None:
        raise ValueError("--label is for a csv file given with --data")
    if args.save is not None:
        if not args.save.lower().endswith(".npz"):
            raise ValueError(f"--save {args.save}: a name that ends in .npz is needed")
        check_replaceable(args.save)
    if args.plot is not None:
        train_report.check_plot(args.plot)
        check_replaceable(args.plot)
    samples = load_digits() if args.data is None else load_file(args.data, args.label)
    run = Comparison(split(samples, config.validation, config.seed, config.dtype), config)
    if checkpoint is not None:
        checkpoint.restore(run)
    return config, run


def _resumed(checkpoint: Any, args: argparse.Namespace) -> Config:
    """The configuration of a training to continue; options that would change its course are refused."""
    same = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    options.add_train(same)
    given = vars(same.parse_args(args.given[args.given.index(args.name) + 1 :]))
    free = ("epochs", "target", "device")
    for field in dataclasses.fields(Config):
        before = getattr(checkpoint.config, field.name)
        if field.name in given and field.name not in free and given[field.name] != before:
            raise ValueError(
                f"--{field.name.replace('_', '-')} is {given[field.name]!r}, and {before!r} in {args.resume}; "
                f"a training goes on as it began: leave it out (only --{', --'.join(free)} may change)"
            )
    if args.data is None:
        args.data = checkpoint.source.get("data")
        args.label = checkpoint.source.get("label") if args.label is None else args.label
    changes = {name: given[name] for name in free if name in given}
    return dataclasses.replace(checkpoint.config, **changes)


def _finish(args: argparse.Namespace, config: Config, run: Comparison, out: Any, interrupted: bool) -> int:
    """Write and show what was reached."""
    from . import train_report

    done = [result for result in run.results if result.history]
    if interrupted:
        last = done[-1] if done else None
        reached = f"after epoch {last.history[-1].number} of {last.method}" if last else "before the first epoch ended"
        print(f"Interrupted {reached}.")
    code = 0
    if args.save is not None:
        code = max(code, _save(args, run))
    if done:
        out.print(train_report.table(done, run.best, config))
    if args.plot is not None:
        if done:
            try:
                train_report.plot(args.plot, done, config)
                print(f"Plot: {args.plot}")
            except OSError as error:
                code = _tell(f"nagd-numba train: error: --plot: {error}", 1)
        else:
            print("Nothing to plot.")
    return code


def _also_saving(args: argparse.Namespace, run: Comparison, on_epoch: Any) -> Any:
    """`on_epoch`, and then the state of the training is saved, if it was not within the last half second."""
    if args.save is None:
        return on_epoch
    last = -math.inf

    def both(result: Any, epoch: Any) -> None:
        nonlocal last
        on_epoch(result, epoch)
        if run.best is not None and time.monotonic() - last > 0.5:
            with contextlib.suppress(OSError):  # told at the end, if it is still so
                _write(args, run)
            last = time.monotonic()

    return both


def _write(args: argparse.Namespace, run: Comparison) -> None:
    from ..io.model_file import save_model
    from . import checkpoint

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
        training=checkpoint.content(run, {"data": args.data, "label": args.label}),
    )


def _save(args: argparse.Namespace, run: Comparison) -> int:
    best = run.best
    if best is None:
        why = "no epoch ended" if not any(result.history for result in run.results) else "every method diverged"
        print(f"Nothing to save: {why}.")
        return 0
    try:
        _write(args, run)
    except OSError as error:
        return _tell(f"nagd-numba train: error: --save: {error}", 1)
    print(f"Best model: {args.save}")
    return 0


def _sweep(args: argparse.Namespace) -> int:
    with catching_interrupts() as interrupts:
        try:
            run = _set_up_sweep(args)
        except (ValueError, OSError) as error:
            return _tell(f"nagd-numba sweep: error: {error}", 2)
        interrupts.run = run
        from . import sweep_report, train_report

        out = train_report.console()
        print(sweep_report.heading(run), flush=True)
        with sweep_report.progress(out, run) as on_epoch:
            run.run(on_epoch)
        interrupts.ignore()  # a Ctrl-C while files are written must not leave half of one
        sweep_report.show(out, run)
        return _write_files(args, run, sweep_report.plot, sweep_report.write_json)


def _set_up_sweep(args: argparse.Namespace) -> Sweep:
    """Check everything that can be checked before training."""
    from .data import load_digits, load_file, split
    from .sweep import Sweep

    base = Config(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Config)})
    config = SweepConfig(base, args.lrs, args.momenta, args.seeds, args.optimizer)
    if args.label is not None and args.data is None:
        raise ValueError("--label is for a csv file given with --data")
    _check_files(args)
    samples = load_digits() if args.data is None else load_file(args.data, args.label)
    return Sweep(split(samples, base.validation, base.seed, base.dtype), config)


def _export(args: argparse.Namespace) -> int:
    from ..c import export

    try:
        cpu = export.check(args.directory, args.cpu)
    except (ValueError, OSError, RuntimeError) as error:
        return _tell(f"nagd-numba export: error: {error}", 2)
    try:
        paths = export.write(args.directory, cpu)
    except OSError as error:
        return _tell(f"nagd-numba export: error: {error}", 1)
    for path in paths:
        print(path)
    print(f"For {cpu}: {export.processors()[cpu]}.  Link with -lm.")
    return 0


def _info(args: argparse.Namespace) -> int:
    from .info import collect

    lines = collect()
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:{width}}  {value}")
    return 0


def _bench(args: argparse.Namespace) -> int:
    from ..bench import command
    from ..bench import report as tables
    from . import train_report

    try:
        only = command.chosen(args.only)
        _check_files(args)
    except (ValueError, OSError) as error:
        return _tell(f"nagd-numba bench: error: {error}", 2)
    results = command.measure(train_report.console(), only, args.seconds)

    def draw(path: str, results: dict[str, Any]) -> None:
        from ..bench.picture import plot

        plot(path, results)

    return _write_files(args, results, draw, tables.write_json)


def _check_files(args: argparse.Namespace) -> None:
    """Raise where --plot or --json could not be written."""
    from ..io.atomic import check_replaceable
    from . import train_report

    if args.plot is not None:
        train_report.check_plot(args.plot)
    for option in ("plot", "json"):
        path = getattr(args, option)
        if path is not None:
            try:
                check_replaceable(path)
            except OSError as error:
                raise OSError(f"--{option}: {error}") from error


def _write_files(args: argparse.Namespace, results: Any, plot: Callable, write_json: Callable) -> int:
    """Write what --plot and --json ask for; returns the exit code."""
    code = 0
    for option, what, write in (("plot", "Plot", plot), ("json", "Results", write_json)):
        path = getattr(args, option)
        if path is not None:
            try:
                write(path, results)
                print(f"{what}: {path}")
            except OSError as error:
                code = _tell(f"nagd-numba {args.name}: error: --{option}: {error}", 1)
    return code


def _tell(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nagd-numba",
        description="Nesterov's accelerated gradient in Numba: compare methods, write C functions.",
    )
    parser.add_argument("--version", action="version", version=f"nagd-numba {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="versions, processor, threads, cache, GPU")
    info.set_defaults(command=_info, name="info")
    export = commands.add_parser(
        "export",
        help="write the steps for C, C++ and Fortran: an object file, a header, a module",
        description="Compile the steps of all optimizers, in float32 and float64, and write nagd_numba.o, which needs "
        "no Python, nagd_numba.h for C and C++, and nagd_numba.f90, a module of interfaces for Fortran.",
        epilog="cc program.c DIR/nagd_numba.o -IDIR -lm",
    )
    export.set_defaults(command=_export, name="export")
    options.add_export(export)
    train = commands.add_parser(
        "train",
        help="train a network with several methods and compare them",
        description="Train a multi-layer perceptron with several methods, such as gradient descent (gd), classical "
        "momentum (momentum), Nesterov's accelerated gradient (nag) and Adam (adam), from the same initial parameters, "
        "with the same batches in the same order and the same dropout, and compare them.",
        epilog="Ctrl-C stops the training, keeps the best model so far, and exits with code 130.",
    )
    train.set_defaults(command=_train, name="train")
    options.add_train(train)
    train.set_defaults(**dataclasses.asdict(Config()))
    sweep = commands.add_parser(
        "sweep",
        help="train a network for each learning rate and momentum at once and compare them",
        description="Train a multi-layer perceptron for each pair of a learning rate and a momentum with several "
        "seeds, all at once, one to a core, and show the validation accuracy of each pair. Trains on the CPU.",
        epilog="Ctrl-C stops the training and exits with code 130; nothing is written then.",
    )
    sweep.set_defaults(command=_sweep, name="sweep")
    options.add_sweep(sweep)
    sweep.set_defaults(**dataclasses.asdict(Config()) | dataclasses.asdict(SweepConfig()))
    bench = commands.add_parser(
        "bench",
        help="measure this machine: steps and training beside their peers, against the limits",
        description="Measure steps, training and prediction beside every installed peer (NumPy, numexpr, PyTorch, JAX "
        "with optax, scikit-learn) and against what memory and processor can do, interleaved in one process. Takes "
        "less than two minutes; keep the machine idle meanwhile.",
    )
    bench.set_defaults(command=_bench, name="bench")
    options.add_bench(bench)
    return parser
