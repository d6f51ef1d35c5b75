"""The command `nagd-numba`.

Exit codes: 0; 1 where a result could not be written; 2 for what the user can correct, told in one line before
anything is trained; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from importlib import import_module

from .._as_command import is_command
from .._version import __version__
from . import launched, options, streams
from .config import Config, SweepConfig
from .defaults import OPTIONS as DEPENDING
from .interrupts import Interrupts, catching, end_now, handled
from .output import tell
from .parser import Parser

START = """\
nagd-numba: Nesterov's accelerated gradient and its kin, in Numba.

  nagd-numba train                  train a network on handwritten digits with three methods, and compare them
  nagd-numba train --data FILE      the same with your rows: a .csv file whose last column is the label, or .npz
  nagd-numba sweep                  a network for each learning rate and momentum, at once
  nagd-numba info                   what runs here: processor, threads, cache of compiled kernels, GPU
  nagd-numba bench                  how fast it is here, beside NumPy and what else is installed
  nagd-numba export DIR             the steps for C, C++ and Fortran
  nagd-numba COMMAND --help         all options

In Python: nagd_numba.step(params, grads, vel) is one step on your own arrays, in place;
python -c "import nagd_numba; help(nagd_numba)" lists the rest.

Begin with: nagd-numba train"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        with streams.usable():
            return _run(given)
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        streams.abandon(sys.stdout)
        return 1
    except OSError as error:  # those of files are told by the commands, with the name
        streams.abandon(sys.stdout)
        what = error.filename or "standard output"
        return tell(f"nagd-numba: error: {what}: {(error.strerror or str(error)).lower()}", 1)


def _run(given: Sequence[str]) -> int:
    rank, size = launched.place()
    if not given:
        with launched.quiet(rank):
            print(START)
        return 0
    try:
        with launched.quiet(rank), launched.quiet_errors(rank):
            args = _parser().parse(given)
        args.given = given
    except SystemExit as end:  # --help, --version, or a usage error that argparse has told
        return int(end.code or 0)
    if size > 1 and args.name not in ("train", "info"):
        with launched.quiet_errors(rank):
            return tell(f"nagd-numba {args.name}: error: started as {size} processes, and only train shares work", 2)
    args.interrupts = interrupts = Interrupts()
    if size == 1:  # ranks stop together
        interrupts.last = lambda: lambda: tell(f"nagd-numba {args.name}: interrupted", interrupts.code)
    try:
        with catching(interrupts):
            code = int(import_module(f".{args.name}", __package__).run(args))
    except KeyboardInterrupt:
        code = tell(f"nagd-numba {args.name}: interrupted", interrupts.code)
    except MemoryError as error:
        return tell(f"nagd-numba {args.name}: error: not enough memory {error}".rstrip(), 2)
    if code > 128:
        handled()
        if size == 1 and is_command():  # ranks leave MPI at their end
            end_now(code)
    return code


def _parser() -> Parser:
    parser = Parser(
        prog="nagd-numba",
        description="Nesterov's accelerated gradient in Numba: compare methods, write C functions.",
    )
    parser.add_argument("--version", action="version", version=f"nagd-numba {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    info = parser.command(commands, "info", help="versions, processor, threads, cache, GPU")
    options.add_info(info)
    export = parser.command(
        commands,
        "export",
        help="write the steps for C, C++ and Fortran: an object file, a header, a module",
        description="Compile the steps of all optimizers, in float32 and float64, and write nagd_numba.o, which needs "
        "no Python, nagd_numba.h for C and C++, and nagd_numba.f90, a module of interfaces for Fortran.",
        epilog="cc program.c DIR/nagd_numba.o -IDIR -lm",
    )
    options.add_export(export)
    train = parser.command(
        commands,
        "train",
        help="train a network with several methods and compare them",
        description="Train a multi-layer perceptron with several methods, such as gradient descent (gd), classical "
        "momentum (momentum), Nesterov's accelerated gradient (nag) and Adam (adam), from the same initial parameters, "
        "with the same batches in the same order and the same dropout, and compare them.",
        epilog="Ctrl-C stops the training, keeps the best model so far, and exits with code 130; SIGTERM and SIGHUP do "
        "the same, with 143 and 129. `mpiexec -n N "
        "nagd-numba train ...` trains on N processes together (pip install mpi4py mpich).",
    )
    options.add_train(train)
    train.set_defaults(**dataclasses.asdict(Config()) | dict.fromkeys(DEPENDING))
    sweep = parser.command(
        commands,
        "sweep",
        help="train a network for each learning rate and momentum at once and compare them",
        description="Train a multi-layer perceptron for each pair of a learning rate and a momentum with several "
        "seeds, all at once, one to a core, and show the validation accuracy of each pair. Trains on the CPU.",
        epilog="Ctrl-C stops the training and exits with code 130; nothing is written then.",
    )
    options.add_sweep(sweep)
    sweep.set_defaults(**dataclasses.asdict(Config()) | dataclasses.asdict(SweepConfig()))
    bench = parser.command(
        commands,
        "bench",
        help="measure this machine: steps and training beside their peers, against the limits",
        description="Measure steps, training and prediction beside every installed peer (NumPy, numexpr, PyTorch, JAX "
        "with optax, scikit-learn) and against what memory and processor can do, interleaved in one process. Takes "
        "less than two minutes; keep the machine idle meanwhile.",
    )
    options.add_bench(bench)
    return parser
