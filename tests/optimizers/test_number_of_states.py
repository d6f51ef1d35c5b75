"""Rules with more states than any of the registry, and with none, through the loops that carry any rule."""

import numpy as np
import pytest

from nagd_numba import Guard
from nagd_numba.kernels.jit import inlined
from nagd_numba.kernels.rounding import add, mul
from nagd_numba.kernels.rule import Rule
from nagd_numba.optimizers._dispatch import update
from tests.helpers.bits import assert_same_bits


@inlined
def rate(hyper, T, options):
    (lr,) = hyper
    return (T(lr),)


@inlined
def mean_of_four(p, g, state, constants, options):
    (lr,) = constants
    a, b, c = state
    T = type(p)
    mean = mul(add(add(g, a), add(b, c)), T(0.25))
    return add(p, mul(-lr, mean)), (g, a, b)


RULE = Rule("mean", mean_of_four, rate, ("a", "b", "c"), {"lr": 0.1}, {})


@pytest.mark.parametrize("way", ["contiguous", "strided", "lists", "parallel", "guard"])
def test_three_states(way):
    rng = np.random.default_rng(0)
    size = 50_000 if way == "parallel" else 50
    p, g, *states = (rng.normal(size=size).astype(np.float32) for _ in range(5))
    a, b, c = states
    want = [p - np.float32(0.1) * (((g + a) + (b + c)) * np.float32(0.25)), g, a.copy(), b.copy()]
    if way == "strided":
        p, *states = (np.repeat(x, 2)[::2] for x in (p, *states))
    if way == "lists":
        halves = [[x[:20].copy(), x[20:].copy()] for x in (p, g, *states)]
        update(RULE, halves[0], halves[1], halves[2:], {"lr": 0.1}, ())
        p, _, *states = map(np.concatenate, halves)
    else:
        update(RULE, p, g, states, {"lr": 0.1}, (), guard=Guard() if way == "guard" else None)
    assert_same_bits([x.copy() for x in (p, *states)], want)


@inlined
def descent(p, g, state, constants, options):
    (lr,) = constants
    return add(p, mul(-lr, g)), ()


@pytest.mark.parametrize("way", ["contiguous", "strided", "parallel", "guard"])
def test_no_states(way):
    rule = Rule("descent", descent, rate, (), {"lr": 0.1}, {})
    rng = np.random.default_rng(0)
    size = 50_000 if way == "parallel" else 50
    p, g = (rng.normal(size=size).astype(np.float32) for _ in range(2))
    want = p - np.float32(0.1) * g
    if way == "strided":
        p = np.repeat(p, 2)[::2]
    guard = Guard() if way == "guard" else None
    update(rule, p, g, [], {"lr": 0.1}, (), guard=guard)
    assert_same_bits([p.copy()], [want])
    assert guard is None or np.isnan(guard.dot)
