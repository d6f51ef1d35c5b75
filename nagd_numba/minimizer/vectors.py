"""What an iteration does to vectors, each in one pass: templates of the compiled loop, and kernels for the Python one.

Sums are taken from the first element to the last, so all loops, those on a device too, give the same bits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from numba import types

from ..kernels.jit import inlined, kernel


def copy(to, x):
    """`to = x`"""
    for i in range(x.size):
        to[i] = x[i]


def largest(x):
    """`max |x_i|`, which is not a number where an element is not finite."""
    most, finite = 0.0, 0.0
    for i in range(x.size):
        most = max(most, abs(x[i]))
        finite += 0.0 * x[i]
    return most + finite


def length(x):
    """The Euclidean norm."""
    total = 0.0
    for i in range(x.size):
        total += x[i] * x[i]
    return math.sqrt(total)


def distance(x, y):
    """The Euclidean norm of `x - y`."""
    total = 0.0
    for i in range(x.size):
        total += (x[i] - y[i]) * (x[i] - y[i])
    return math.sqrt(total)


def descend(z, y, g, step):
    """`z = y - step g`"""
    for i in range(z.size):
        z[i] = y[i] - step * g[i]


def compare(point, z, x, y, g):
    """`<g, z - point>`, `|z - point|^2`, `<y - z, z - x>` and `max |z_i - point_i|`."""
    slope = square = turn = most = 0.0
    for i in range(z.size):
        moved = z[i] - point[i]
        slope += g[i] * moved
        square += moved * moved
        turn += (y[i] - z[i]) * (z[i] - x[i])
        most = max(most, abs(moved))
    return slope, square, turn, most


def extrapolate(to, z, x, momentum):
    """`to = z + momentum (z - x)`"""
    for i in range(z.size):
        to[i] = z[i] + momentum * (z[i] - x[i])


def judge(z, y, ahead, g, ahead_g):
    """`<g', z - y'>`, `<g' - g, z - (y + y')/2>`, `<g' - g, y' - y>` and `|y' - y|^2`, with y' and g' `ahead`."""
    beyond = bent = climb = far = 0.0
    for i in range(z.size):
        beyond += ahead_g[i] * (z[i] - ahead[i])
        bent += (ahead_g[i] - g[i]) * (z[i] - 0.5 * (y[i] + ahead[i]))
        moved = ahead[i] - y[i]
        climb += (ahead_g[i] - g[i]) * moved
        far += moved * moved
    return beyond, bent, climb, far


def accept(x, z, y, ahead, g, ahead_g):
    """`x = z`, `y = y'`, `g = g'`"""
    for i in range(x.size):
        x[i] = z[i]
        y[i] = ahead[i]
        g[i] = ahead_g[i]


def difference(to, a, b):
    """`to = a - b`"""
    for i in range(to.size):
        to[i] = a[i] - b[i]


_vector = types.float64[::1]
_number = types.float64
SIGNATURES: dict[Callable, Any] = {
    copy: types.void(_vector, _vector),
    largest: _number(_vector),
    length: _number(_vector),
    distance: _number(_vector, _vector),
    descend: types.void(_vector, _vector, _vector, _number),
    compare: types.UniTuple(_number, 4)(_vector, _vector, _vector, _vector, _vector),
    extrapolate: types.void(_vector, _vector, _vector, _number),
    judge: types.UniTuple(_number, 4)(_vector, _vector, _vector, _vector, _vector),
    accept: types.void(_vector, _vector, _vector, _vector, _vector, _vector),
    difference: types.void(_vector, _vector, _vector),
}


@functools.cache
def inlined_operations() -> dict[str, Callable]:
    """For the compiled algorithm."""
    return {function.__name__: inlined(function) for function in SIGNATURES}


@functools.cache
def kernels() -> dict[str, Callable]:
    """For the algorithm in Python; kept on disk."""
    return {function.__name__: kernel(function, signature) for function, signature in SIGNATURES.items()}
