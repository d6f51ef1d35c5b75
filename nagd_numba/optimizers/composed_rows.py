"""The kernels of a composed step: which rows of arrays go together, and what starts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import typeof, types

from .. import validation
from ..kernels import elementwise, segments
from ..kernels.rule import Rule

Start = Callable[[np.ndarray], int]  # by the rows of `groups.Numbers`; returns a status


@dataclass
class Row:
    """The arrays of one place of lists, or of a step: their names and themselves, in the order of the rule."""

    named: list[tuple[str, np.ndarray]]  # params, grads, states, inputs
    mask: np.ndarray | None
    settings: int  # the row of its hyper-parameters


class Together:
    """The step of vectors by the rows of hyper-parameters that are theirs: called with all rows, a status."""

    def __init__(self, rule: Rule, options: tuple[Any, ...], table: segments.Table, rows: np.ndarray) -> None:
        """`rows` has the row of each vector of the table."""
        dtype = table.kept[0][0].dtype
        self.table, self.rows = table, rows
        self.grouped = bool((rows != rows[0]).any())
        made: Any = segments.grouped_step_of if self.grouped else segments.step_of
        self.step: Any = made(rule, options, dtype)

    def __call__(self, numbers: np.ndarray) -> int:
        """Step the arrays; returns the status."""
        status: int = (
            self.step(self.table, numbers, self.rows) if self.grouped else self.step(self.table, numbers[self.rows[0]])
        )
        return status


def starts_of(rule: Rule, options: tuple[Any, ...], rows: list[Row]) -> list[Start]:
    """What steps checked rows: those that are contiguous and of one dtype by one kernel."""
    together: dict[np.dtype, list[tuple[int, list[np.ndarray]]]] = {}
    starts: list[Start] = []
    for row in rows:
        arrays = [x for _, x in row.named]
        places = rule.mask == "places"
        flat = validation.flat_views(arrays if row.mask is None or places else [*arrays, row.mask])
        if places and not all(x.flags.c_contiguous for x in arrays):
            raise ValueError("mask has places in C-contiguous arrays, and these are not: pass a mask of bool")
        if flat is None:
            starts.append(_strided(rule, row, options))
        elif places and row.mask is not None and row.mask.size > 0:
            together.setdefault(flat[0].dtype, []).append((row.settings, [*flat, row.mask]))
        elif not places and flat[0].size > 0:
            together.setdefault(flat[0].dtype, []).append((row.settings, flat))
    for parts in together.values():
        table = segments.Table.of([vectors for _, vectors in parts], places=rule.mask == "places")
        starts.append(Together(rule, options, table, np.array([k for k, _ in parts], np.int64)))
    return starts


def _strided(rule: Rule, row: Row, options: tuple[Any, ...]) -> Start:
    """The step of arrays of any strides."""
    p, g, *others = [x for _, x in row.named] + ([] if row.mask is None else [row.mask])
    beside = tuple(others)
    signature = (*map(typeof, (p, g, beside)), types.UniTuple(types.float64, len(rule.hyper)))
    kernel = elementwise.strided_kernel(rule, options, signature)
    return lambda numbers: int(kernel(p, g, beside, tuple(numbers[row.settings])))
