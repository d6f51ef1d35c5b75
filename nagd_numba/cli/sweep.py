"""`nagd-numba sweep`: the options checked, the grid trained, and its results shown and written."""

from __future__ import annotations

import argparse
import dataclasses

from . import sources, sweep_report
from .compile_notice import compile_notice
from .config import Config, SweepConfig
from .data import split
from .grid import Sweep
from .output import check_files, console, say, tell, write_files


def run(args: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    try:
        sweep = _set_up(args)
    except (ValueError, OSError) as error:
        return tell(f"nagd-numba sweep: error: {error}", 2)
    args.interrupts.run = sweep
    out = console()
    if sweep.data.understood:
        say(sweep.data.understood)
    say(sweep_report.heading(sweep))
    with compile_notice(), sweep_report.progress(out, sweep) as on_epoch:
        sweep.run(on_epoch)
    args.interrupts.ignore()  # a Ctrl-C while files are written must not leave half of one
    sweep_report.show(out, sweep)
    return write_files(args, sweep, sweep_report.plot, sweep_report.write_json)


def _set_up(args: argparse.Namespace) -> Sweep:
    """Check everything that can be checked before training."""
    base = Config(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Config)})
    config = SweepConfig(base, args.lrs, args.momenta, args.seeds, args.optimizer)
    check_files(args)
    return Sweep(split(sources.load(args), base.validation, base.seed, base.dtype), config)
