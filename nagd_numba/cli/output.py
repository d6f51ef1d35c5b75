"""What the commands share: the console, the files of --plot and --json, messages to standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..io.atomic import check_replaceable
from .streams import abandon


def console() -> Any:
    """Standard output, for plain text: no markup, nothing coloured by guess."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def percent(share: float) -> str:
    """97.8 %"""
    return f"{100 * share:.1f} %"


def suffix(path: str | Path) -> str:
    """The kind of a file, by its name."""
    return Path(path).suffix.lower().removeprefix(".")


def check_plot(path: str | Path) -> None:
    """Raise `ValueError` where `plot` could not write this kind of file."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(f"--plot needs matplotlib ({error}): pip install matplotlib") from error
    supported = sorted(Figure().canvas.get_supported_filetypes())
    if suffix(path) not in supported:
        raise ValueError(
            f"--plot {path}: suffix {Path(path).suffix!r} is not supported; one of {', '.join(supported)} is needed"
        )


def check_files(args: Any) -> None:
    """Raise where --plot or --json could not be written."""
    if args.plot is not None:
        check_plot(args.plot)
    for option in ("plot", "json"):
        path = getattr(args, option)
        if path is not None:
            try:
                check_replaceable(path)
            except OSError as error:
                raise OSError(f"--{option}: {error}") from error


def write_files(args: Any, results: Any, plot: Callable, write_json: Callable) -> int:
    """Write what --plot and --json ask for; returns the exit code."""
    code = 0
    for option, what, write in (("plot", "Plot", plot), ("json", "Results", write_json)):
        path = getattr(args, option)
        if path is not None:
            try:
                write(path, results)
                say(f"{what}: {path}")
            except OSError as error:
                code = tell(f"nagd-numba {args.name}: error: --{option}: {error}", 1)
    return code


def say(text: str) -> None:
    """Write a line to standard output, now."""
    print(text, flush=True)


def tell(message: str, code: int) -> int:
    """Write a message to standard error; returns the exit code."""
    try:
        print(message, file=sys.stderr)
    except OSError:  # then there is no place left to say anything
        abandon(sys.stderr)
    return code
