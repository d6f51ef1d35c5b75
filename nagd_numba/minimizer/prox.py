"""Proximal maps `prox(z, step) = argmin_u h(u) + |u - z|^2 / (2 step)`, in place, and the penalties `h`.

=========== ============================== =========================================
name        h(x)                           prox
=========== ============================== =========================================
None        0                              z
"l1"        sum_i w_i |x_i|                sign(z_i) max(|z_i| - step w_i, 0)
"box"       0 for a <= x <= b, else inf    min(max(z_i, a_i), b_i)
"nonneg"    0 for x >= 0, else inf         max(z_i, 0)
=========== ============================== =========================================

Source: N. Parikh, S. Boyd, Foundations and Trends in Optimization 1 (2014).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numba import types

from ..kernels.linking import Interface, Linked, linked
from ..kernels.template import template

NAMES = ("l1", "box", "nonneg")

# `first` and `second` are vectors: the weights w and nothing, or the bounds a and b.  Comparisons, not `max` and `min`:
# CUDA's differ in what they make of NaN and of -0.


def nothing(z, step, first, second):
    pass


def soft_threshold(z, step, first, second):
    for i in range(z.size):
        shrunk = abs(z[i]) - step * first[i]
        if shrunk < 0.0:
            shrunk = 0.0
        z[i] = shrunk if z[i] > 0 else -shrunk


def clip(z, step, first, second):
    for i in range(z.size):
        if z[i] < first[i]:
            z[i] = first[i]
        if z[i] > second[i]:
            z[i] = second[i]


@template
def users(own, take):
    def users(z, step, first, second):
        take(z, own(z, step))

    return users


def no_penalty(x, first, second):
    return 0.0


def weighted_l1(x, first, second):
    total = 0.0
    for i in range(x.size):
        total += first[i] * abs(x[i])
    return total


@template
def users_penalty(own):
    def users_penalty(x, first, second):
        return own(x)

    return users_penalty


def chosen(name: Any, own_penalty: Any, take: Callable) -> tuple[Callable, Callable]:
    """The map and the penalty of a name, or of the user's functions."""
    map_: Callable = {None: nothing, "l1": soft_threshold, "box": clip, "nonneg": clip}[
        None if callable(name) else name
    ]
    if callable(name):
        map_ = users.bind(own=name, take=take)
    if own_penalty is not None:
        return map_, users_penalty.bind(own=own_penalty)
    return map_, weighted_l1 if name == "l1" else no_penalty


_vector = types.float64[::1]
SIGNATURES: dict[Callable, Any] = {
    soft_threshold: types.void(_vector, types.float64, _vector, _vector),
    clip: types.void(_vector, types.float64, _vector, _vector),
    weighted_l1: types.float64(_vector, _vector, _vector),
}


@functools.cache
def compiled(function: Callable) -> Linked:
    """One of our own maps or penalties, compiled; kept on disk."""
    return linked(function, Interface(SIGNATURES[function]), from_python=True)


def kernels() -> dict[Callable, Callable]:
    """Our own, for loops that run in Python."""
    return {function: compiled(function).kernel for function in SIGNATURES}
