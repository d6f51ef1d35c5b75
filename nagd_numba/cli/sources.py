"""Which samples the options of a command ask for."""

from __future__ import annotations

import argparse
from typing import Any

from .data import Samples, load_digits, load_file

FORM = ("label", "delimiter", "header", "decimal")  # what the user says of a table


def load(args: argparse.Namespace) -> Samples:
    """The samples of --data, or the digits; raises `ValueError` and `OSError` in one line."""
    form = {name: getattr(args, name) for name in FORM}
    if args.data is not None:
        return load_file(args.data, **form)
    for name, value in form.items():
        if value is not None:
            raise ValueError(f"--{name} is for a csv file given with --data")
    return load_digits()


def source(args: argparse.Namespace) -> dict[str, Any]:
    """What a training keeps of these options, so that it can be resumed without them."""
    return {name: getattr(args, name) for name in ("data", *FORM)}


def restore(args: argparse.Namespace, kept: dict[str, Any]) -> None:
    """Take from a training that is resumed what is not given again."""
    if args.data is None:
        args.data = kept.get("data")
        for name in FORM:
            if getattr(args, name) is None:
                setattr(args, name, kept.get(name))  # trainings of earlier versions have the label alone
