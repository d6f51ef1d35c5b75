"""What is done to an element of a product on its way out: the CUDA side of `products.finish_...`.

There are two functions for each purpose: `bring(at, j, to)` reads what is needed beside the sum, as two numbers, and
`finish(total, found, other, at, last_row, to)` writes element `at`, in column `j`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from ...gpu.pointers import load, store
from ...kernels.jit import merged
from ...kernels.mathfuncs import flush_subnormal
from ...kernels.rounding import add, fma, mul
from ..activations import ACTIVATIONS
from ..dropout import drop, drop_delta

# Bound below.
activate: Any = None
slope: Any = None
update: Any = None
OPTIONS: Any = None
DROPOUT: Any = None


def bound(purpose: str, kind: Any, scalar: Any) -> tuple[Callable, Callable, types.Tuple]:
    """`bring` and `finish` for a purpose, and the type of `to`."""
    chosen = ACTIVATIONS[kind.activation]
    pointer, word = types.CPointer(scalar), types.uint64
    if purpose == "hidden":
        finish = merged(hidden, activate=chosen.value, DROPOUT=kind.dropout)
        return merged(bias), finish, types.Tuple((pointer, pointer, word, word, scalar))
    if purpose == "output":
        return merged(bias), merged(output), types.Tuple((pointer, pointer))
    if purpose == "delta":
        finish = merged(delta, slope=chosen.slope, DROPOUT=kind.dropout)
        return merged(below), finish, types.Tuple((pointer, pointer, word, word, scalar, scalar))
    if purpose == "gradient":
        to = types.Tuple((pointer, pointer, scalar, types.int64))
        return merged(weight), merged(gradient), to
    scalars = types.UniTuple(scalar, kind.rule.constant_count)
    finish = merged(updated, update=kind.rule.update, OPTIONS=kind.options)
    return merged(weight_and_velocity), finish, types.Tuple((pointer, pointer, scalar, scalars))


def bias(at, j, to):
    value = load(to[0], j)
    return value, value


def hidden(total, bias, _, at, last_row, to):
    """`to`: biases, out, key and threshold of the dropout, its scale."""
    value = activate(add(total, bias))
    if DROPOUT:
        value = drop(value, to[2], at, to[3], to[4])
    store(to[1], at, value)


def output(total, bias, _, at, last_row, to):
    """`to`: biases, out."""
    store(to[1], at, add(total, bias))


def below(at, j, to):
    value = load(to[0], at)
    return value, value


def delta(total, h, _, at, last_row, to):
    """`to`: activations of the layer, out, key and threshold of the dropout, its scale and the inverse."""
    if DROPOUT:
        value = drop_delta(mul(total, slope(mul(h, to[5]))), to[2], at, to[3], to[4])
    else:
        value = mul(total, slope(h))
    store(to[1], at, value)


def weight(at, j, to):
    params, out, _, more = to
    value = load(out, at) if more != 0 else load(params, at)
    return value, value


def gradient(total, found, _, at, last_row, to):
    """`to`: params, out, weight of the penalty, more.  The last row has the biases, which are not penalised."""
    _, out, decay, more = to
    if more != 0:
        total = add(found, total)
    elif decay != 0 and not last_row:
        total = fma(decay, found, total)
    store(out, at, total)


def weight_and_velocity(at, j, to):
    return load(to[0], at), load(to[1], at)


def updated(total, p, v, at, last_row, to):
    """`to`: params, vel, weight of the penalty, the rule's scalars."""
    params, vel, decay, scalars = to
    g = fma(decay, p, total) if decay != 0 and not last_row else total
    p, state = update(p, g, (v,), scalars, OPTIONS)
    store(params, at, p)
    store(vel, at, flush_subnormal(state[0]))
