"""The arrays of a step with a guard on the host: checked, flat, and their gradients summed up."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import validation
from ..kernels import reductions
from ..kernels.rule import Rule
from ._host import arrays_of_step


class Whole:
    """What a guard must know of all arrays of a step where they are all in this process."""

    def totals(self, sums: list[np.ndarray]) -> list[np.ndarray]:
        """The sums of each array, from those of its blocks (`reductions.new_sums`)."""
        return [x[-1] for x in sums]

    def count(self, n: int) -> int:
        """A number of elements of all arrays, from that of those here."""
        return n

    def everything(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """All arrays, of which these are here."""
        return arrays


def checked(rule: Rule, group: tuple[Any, ...], number: int | None) -> list[tuple[str, np.ndarray]]:
    """The arrays of a group with their names, which have the group's `number` in a list of several."""
    names: tuple[str, ...] = ("params", "grads", *rule.states)
    names = names if number is None else validation.numbered(names, number)
    return arrays_of_step(list(zip(names, group, strict=True)))


def in_one_order(host: list[np.ndarray]) -> list[np.ndarray]:
    """Views of the arrays with one order of elements; raises where they are not contiguous."""
    flat = validation.flat_views(host)
    if flat is None:
        raise ValueError("a step with a guard needs contiguous arrays: pass copies, np.ascontiguousarray(...)")
    return flat


def gradient_sums(g: np.ndarray) -> np.ndarray:
    """The sums of a gradient that need no step."""
    sums = reductions.new_sums(g.size)
    reductions.gradient_kernel(g.dtype)(read_only(g), sums, reductions.forms_of(g.dtype).of(g.size))
    return sums


def read_only(x: np.ndarray) -> np.ndarray:
    """A view that cannot be written to."""
    view = x.view()
    view.flags.writeable = False
    return view
