"""`nagd-numba sweep`: the options checked, the grid trained, and its results shown and written."""

from __future__ import annotations

import argparse
import dataclasses

from . import sweep_report
from .compile_notice import compile_notice
from .config import Config, SweepConfig
from .data import load_digits, load_file, split
from .grid import Sweep
from .interrupts import catching_interrupts
from .output import check_files, console, tell, write_files


def run(args: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    with catching_interrupts() as interrupts:
        try:
            sweep = _set_up(args)
        except (ValueError, OSError) as error:
            return tell(f"nagd-numba sweep: error: {error}", 2)
        interrupts.run = sweep
        out = console()
        print(sweep_report.heading(sweep), flush=True)
        with compile_notice(), sweep_report.progress(out, sweep) as on_epoch:
            sweep.run(on_epoch)
        interrupts.ignore()  # a Ctrl-C while files are written must not leave half of one
        sweep_report.show(out, sweep)
        return write_files(args, sweep, sweep_report.plot, sweep_report.write_json)


def _set_up(args: argparse.Namespace) -> Sweep:
    """Check everything that can be checked before training."""
    base = Config(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Config)})
    config = SweepConfig(base, args.lrs, args.momenta, args.seeds, args.optimizer)
    if args.label is not None and args.data is None:
        raise ValueError("--label is for a csv file given with --data")
    check_files(args)
    samples = load_digits() if args.data is None else load_file(args.data, args.label)
    return Sweep(split(samples, base.validation, base.seed, base.dtype), config)
