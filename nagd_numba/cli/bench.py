"""`nagd-numba bench`: sections measured, shown and written."""

from __future__ import annotations

import argparse

from ..bench import command, report
from ..bench.picture import plot
from .compile_notice import compile_notice
from .output import check_files, console, tell, write_files


def run(args: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    try:
        only = command.chosen(args.only)
        check_files(args)
    except (ValueError, OSError) as error:
        return tell(f"nagd-numba bench: error: {error}", 2)
    with compile_notice():
        results = command.measure(console(), only, args.seconds)
    return write_files(args, results, plot, report.write_json)
