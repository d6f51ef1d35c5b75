"""Docstrings of functions that an adapter makes of a step: the step's own text, for the arguments that are left."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any


def title(step: Callable[..., Any]) -> str:
    """What a step is a step of: "Adam", "Nesterov's accelerated gradient"."""
    return re.split("[,:.]", inspect.cleandoc(step.__doc__ or "").removeprefix("One step of "))[0]


def formula(step: Callable[..., Any]) -> str:
    """What stands between the first line of a step's docstring and its parameters."""
    return _parts(step)[0]


def parameters(step: Callable[..., Any], names: Iterable[str]) -> str:
    """The entries of a step's parameters, of those names."""
    wanted = set(names)
    entries = re.split(r"\n(?=\S)", _parts(step)[1])
    return "\n".join(x for x in entries if wanted & set(x.split(" : ")[0].split(", ")))


def _parts(step: Callable[..., Any]) -> tuple[str, str]:
    text = inspect.cleandoc(step.__doc__ or "")
    before, _, after = text.partition("\n\nParameters\n----------\n")
    return before.partition("\n\n")[2], after.partition("\n\nReturns\n")[0]
