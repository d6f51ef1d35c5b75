"""`nagd-numba export`: the steps as an object file, a header and a module."""

from __future__ import annotations

import argparse

from ..c import export
from .compile_notice import compile_notice
from .output import tell


def run(args: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    try:
        composed = export.compositions(args.composed)
        cpu = export.check(args.directory, args.cpu)
    except (ValueError, OSError, RuntimeError) as error:
        return tell(f"nagd-numba export: error: {error}", 2)
    try:
        with compile_notice():
            paths = export.write(args.directory, cpu, composed)
    except OSError as error:
        return tell(f"nagd-numba export: error: {error}", 1)
    for path in paths:
        print(path)
    print(f"For {cpu}: {export.processors()[cpu]}.  Link with -lm.")
    return 0
