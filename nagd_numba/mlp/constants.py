"""The constants that a rule makes of its hyper-parameters, for every update of an epoch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ..kernels.jit import kernel
from ..kernels.pointers import load_tuple, pointer
from ..kernels.rule import Rule
from ..kernels.template import template
from ..optimizers.average import Average


def rule_constants(rule: Rule, options: tuple[Any, ...], hyper: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`rule.constants` of each row of hyper-parameters, whatever is before the last dimension."""
    rows = np.ascontiguousarray(hyper, float).reshape(-1, len(rule.hyper))
    table = np.empty((len(rows), rule.constant_count), dtype)
    constants_kernel(np.dtype(dtype).name, rule, options)(rows, table)
    return table.reshape(*hyper.shape[:-1], rule.constant_count)


def with_weights(hyper: np.ndarray, average: Average) -> np.ndarray:
    """The hyper-parameters of the next updates by a rule with an average; `hyper` has those without its weight."""
    weights = average.weights(hyper.shape[-2])
    column = np.broadcast_to(weights[:, None], (*hyper.shape[:-1], 1))
    return np.concatenate([hyper, column], axis=-1)


@template
def constants_table(constants, OPTIONS, HYPER, SCALARS, T):
    """The rule's constants for each row of hyper-parameters."""

    def constants_table(hyper, table):
        values = pointer(hyper)
        for u in range(hyper.shape[0]):
            made = constants(load_tuple(values, u * HYPER, HYPER), T, OPTIONS)
            for k in range(SCALARS):
                table[u, k] = made[k]

    return constants_table


@functools.cache
def constants_kernel(dtype: str, rule: Rule, options: tuple[Any, ...]) -> Any:
    """`kernel(hyper, table)`: a row of float64 hyper-parameters and one of scalars for each update."""
    bound = constants_table.bind(
        constants=rule.constants,
        OPTIONS=options,
        HYPER=len(rule.hyper),
        SCALARS=rule.constant_count,
        T=np.dtype(dtype).type,
    )
    rows = types.Array(types.float64, 2, "C", readonly=True)
    return kernel(bound, types.void(rows, from_dtype(np.dtype(dtype))[:, ::1]))
