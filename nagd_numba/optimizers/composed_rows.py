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
    """The step of vectors by one row of hyper-parameters: called with all rows, a status."""

    def __init__(self, step: segments.Step, table: segments.Table, row: int) -> None:
        self.step, self.table, self._row = step, table, row

    def __call__(self, numbers: np.ndarray) -> int:
        """Step the arrays of one row of numbers; returns the status."""
        return self.step(self.table, numbers[self._row])


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
    starts += [_contiguous(rule, parts, options, dtype) for dtype, parts in together.items()]
    return starts


def _contiguous(
    rule: Rule, rows: list[tuple[int, list[np.ndarray]]], options: tuple[Any, ...], dtype: np.dtype
) -> Start:
    """The step of contiguous vectors in one kernel."""
    table = segments.Table.of([vectors for _, vectors in rows], places=rule.mask == "places")
    settings = np.array([k for k, _ in rows], np.int64)
    if (settings == settings[0]).all():
        return Together(segments.step_of(rule, options, dtype), table, int(settings[0]))
    grouped = segments.grouped_step_of(rule, options, dtype)
    return lambda numbers: grouped(table, numbers, settings)


def _strided(rule: Rule, row: Row, options: tuple[Any, ...]) -> Start:
    """The step of arrays of any strides."""
    p, g, *others = [x for _, x in row.named] + ([] if row.mask is None else [row.mask])
    beside = tuple(others)
    signature = (*map(typeof, (p, g, beside)), types.UniTuple(types.float64, len(rule.hyper)))
    kernel = elementwise.strided_kernel(rule, options, signature)
    return lambda numbers: int(kernel(p, g, beside, tuple(numbers[row.settings])))
