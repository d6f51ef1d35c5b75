"""Updates of a whole vector of parameters by a rule."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels.linking import Interface, Linked, linked
from ...kernels.mathfuncs import flush_subnormal
from ...kernels.pointers import (
    load_each,
    load_tuple,
    spread,
    store_each,
)
from ...kernels.rule import Rule
from ...kernels.template import template

_n = types.int64


@template
def apply(update, OPTIONS, STATES, SCALARS):
    """The update of a whole vector."""

    def apply(params, grads, first_state, size, table):
        states, scalars = spread(first_state, size, STATES), load_tuple(table, 0, SCALARS)
        for i in range(size):
            params[i], state = update(params[i], grads[i], load_each(states, i), scalars, OPTIONS)
            store_each(states, i, state)
        for i in range(STATES * size):
            first_state[i] = flush_subnormal(first_state[i])

    return apply


@functools.cache
def apply_interface(dtype: str) -> Interface:
    """params, grads, the first state, their size, the rule's scalars."""
    x = types.CPointer(from_dtype(np.dtype(dtype)))
    return Interface(types.void(x, x, x, _n, x))


@functools.cache
def apply_function(dtype: str, rule: Rule, options: tuple[Any, ...]) -> Linked:
    """`apply`."""
    bound = apply.bind(
        update=rule.update_of(options), OPTIONS=options, STATES=len(rule.states), SCALARS=rule.constant_count
    )
    return linked(bound, apply_interface(dtype))
