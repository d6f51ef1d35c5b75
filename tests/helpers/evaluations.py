"""Evaluations of a function in lanes, and alone: `Lanes` calls what `lane_rows.compiled_evaluation` makes."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, typeof, types

from nagd_numba.kernels.lanes import modules
from nagd_numba.kernels.pointers import address, keep_alive
from nagd_numba.minimizer import lane_rows, objective, specialize

_ALIGNED = 64


class _Function(types.WrapperAddressProtocol):
    """What compiled code can call, at an address."""

    def __init__(self, where: int) -> None:
        self.where = where

    def __wrapper_address__(self) -> int:
        return self.where

    def signature(self) -> types.Type:
        word = types.int64
        return word(*[word] * 5, types.uint8, *[word] * 5)


_placed = lane_rows.placed


@njit
def _call(function, out, x, g, counts, bounds, wanted, lanes, columns, common, table, memory):
    base = -(-address(memory) // _ALIGNED) * _ALIGNED
    context = _placed(columns, common, table, base)
    ends = address(bounds), address(bounds)
    n = x.shape[0]
    failed = function(
        address(out), address(x), address(g), n, address(counts), np.uint8(0), *ends, context, address(wanted), lanes
    )
    keep_alive(out, x, g, counts, bounds, wanted, memory)
    return failed


class Lanes:
    """A function that returns its value and its gradient, with rows of `columns` and with `common`, for all lanes."""

    def __init__(self, fun, n: int, columns: tuple, common: tuple) -> None:
        functions = specialize.Functions(fun, None, specialize.TOGETHER)
        self.width, self.n, self.columns, self.common = modules.width(), n, columns, common
        self.made = lane_rows.compiled_evaluation(functions, typeof(columns), typeof(common), self.width)
        self.table, room = lane_rows._table(columns, n, self.width)
        self.memory = np.zeros(room, np.uint8)

    def __call__(self, X, rows, there, filled: float):
        """Values, gradients (a row for each lane), counts and failures; what is not written stays `filled`."""
        width, n = self.width, self.n
        for k, column in enumerate(self.columns):
            count = math.prod(column.shape[1:])
            begin = -self.memory.ctypes.data % _ALIGNED + self.table[k, 3]
            place = self.memory[begin : begin + count * width * column.itemsize].view(column.dtype)
            place.reshape(count, width)[...] = column[rows].reshape(width, count).T
        x, g, out = np.ascontiguousarray(X[rows].T), np.full((n, width), filled), np.full(width, filled)
        counts, wanted = np.zeros((objective.COUNTS, width), np.int64), np.ones(width, np.uint8)
        lanes = sum(1 << lane for lane in np.flatnonzero(there))
        data = self.columns, self.common, self.table, self.memory
        failed = _call(_Function(self.made.address), out, x, g, counts, np.zeros(n), wanted, lanes, *data)
        return out, g.T, counts[objective.NFEV], np.array([failed >> lane & 1 for lane in range(width)], bool)
