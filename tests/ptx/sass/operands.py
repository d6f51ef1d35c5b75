"""The operands of instructions of every kind: which are read, which are written, whole numbers with a sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[np.ndarray], None]  # an instruction, for the threads of a mask
LOW = np.uint64(0xFFFFFFFF)
WORD = np.uint64(32)  # bits


def is_predicate(text: str) -> bool:
    return text.lstrip("!U").startswith("P") and not text.startswith("PR")


def split(operands: tuple[str, ...]) -> tuple[str, list[str], list[str], list[str]]:
    """Target, predicates that are written behind it, sources, predicates that are read."""
    target, rest = operands[0], list(operands[1:])
    out = []
    while is_predicate(rest[0]):
        out.append(rest.pop(0))
    sources = [x for x in rest if not is_predicate(x)]
    return target, out, sources, [x for x in rest if is_predicate(x)]


def signed(x: Any) -> Any:
    return np.asarray(x).astype(np.uint32).view(np.int32).astype(np.int64)
