"""Clipping, loss scales, non-finite gradients, and the sums that a step makes on its way."""

import copy
import functools
import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from numba.core.errors import TypingError

from nagd_numba import Guard, adam_step, step
from nagd_numba.kernels import reductions
from nagd_numba.kernels.forms import ALWAYS_PARALLEL
from nagd_numba.optimizers.registry import RULES
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits

LARGE = 3000 if JIT_OFF else 100_003
jit = pytest.mark.skipif(JIT_OFF, reason="is about threads and compiled callers")


def arrays(n, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=n).astype(dtype) for _ in range(3)]


def reference_sums(g, s):
    """The sums in the documented order, in Python's floats."""
    from tests.helpers import oracles  # an fma of its own

    totals = [0.0, 0.0]
    for first in range(0, g.size, reductions.BLOCK):
        chains = [[0.0] * reductions.LANES for _ in totals]
        for k, (a, b) in enumerate(
            zip(g[first : first + reductions.BLOCK], s[first : first + reductions.BLOCK], strict=True)
        ):
            for chain, x in zip(chains, (a, b), strict=True):
                chain[k % reductions.LANES] = oracles.fma(x, a, chain[k % reductions.LANES], np.float64)
        # `sum` of floats is compensated since Python 3.12.
        totals = [total + functools.reduce(operator.add, x) for total, x in zip(totals, chains, strict=True)]
    return totals


@pytest.mark.parametrize("n", [0, 1, 63, 64, 200, reductions.BLOCK + 70])
def test_sums_are_in_the_documented_order(n):
    p, g, v = arrays(n)
    guard = Guard()
    step(p, g, v, guard=guard)
    squares, dot = reference_sums(g, v)
    assert guard.norm == math.sqrt(squares)
    assert guard.dot == dot
    assert guard.nonfinite_count == 0
    assert not guard.skipped
    exact = math.fsum(float(x) * float(x) for x in g)
    assert abs(squares - exact) <= (n / reductions.LANES + reductions.LANES + 2) * np.finfo(float).eps * exact


@jit
def test_sums_have_equal_bits_for_any_number_of_threads():
    import numba

    found = set()
    most = numba.get_num_threads()
    try:
        for threads in range(1, most + 1):
            numba.set_num_threads(threads)
            p, g, v = arrays(LARGE)
            guard = Guard(clip_norm=1.0)
            step(p, g, v, guard=guard)
            found.add((guard.norm, guard.dot, p.tobytes()))
    finally:
        numba.set_num_threads(most)
    assert len(found) == 1
    sums = [reductions.new_sums(LARGE) for _ in range(2)]
    for parallel, out in zip((False, True), sums, strict=True):
        g.flags.writeable = False
        reductions.gradient_kernel(g.dtype)(g, out, ALWAYS_PARALLEL.of(g.size) if parallel else 0)
    assert_same_bits([sums[0][:, :2].copy()], [sums[1][:, :2].copy()])


@pytest.mark.parametrize("name", RULES)
def test_a_guard_that_does_nothing_changes_no_bits(name):
    """For every rule: the guarded kernel against the plain one, signs of zeros and NaN included."""
    from nagd_numba.optimizers._host import apply

    rule = RULES[name]
    p, g, s = arrays(100)
    g[:5] = [0.0, -0.0, np.inf, -np.inf, np.nan]
    states = [np.abs(s) for _ in rule.states]
    mine, theirs = ([x.copy() for x in (p, *states)] for _ in range(2))
    apply(rule, theirs[0], g, theirs[1:], dict(rule.hyper), rule.defaults())
    guard = Guard()
    guard.step(rule, [(mine[0], g, *mine[1:])], dict(rule.hyper), rule.defaults())
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(np.signbit(a), np.signbit(b))
    assert guard.nonfinite_count == 3


@given(
    scale=st.sampled_from([1.0, 2.0**16]), clip=st.sampled_from([None, 0.5, 1e6]), value=st.sampled_from([None, 0.01])
)
def test_clipping_is_that_of_the_gradient(scale, clip, value):
    p, g, v = arrays(500, np.float64)
    want_p, want_v = p.copy(), v.copy()
    guard = Guard(clip_norm=clip, clip_value=value, grad_scale=scale)
    step(p, scale * g, v, guard=guard)
    norm = np.linalg.norm(g)
    used = g * min(1.0, (clip or np.inf) / norm)
    used = np.clip(used, -(value or np.inf), value or np.inf)
    step(want_p, used, want_v)
    np.testing.assert_allclose(p, want_p, rtol=0, atol=1e-14)
    np.testing.assert_allclose(v, want_v, rtol=0, atol=1e-14)
    np.testing.assert_allclose(guard.norm, norm, rtol=1e-14)
    np.testing.assert_allclose(guard.dot, g @ v, rtol=0, atol=1e-12)


def test_clipping_like_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    columns = [[x[:300], x[300:]] for x in arrays(1000, np.float64)]
    tensors = [torch.zeros(len(x), dtype=torch.float64, requires_grad=True) for x in columns[1]]
    for tensor, g in zip(tensors, columns[1], strict=True):
        tensor.grad = torch.from_numpy(g.copy())
    total = torch.nn.utils.clip_grad_norm_(tensors, 3.0)
    guard = Guard(clip_norm=3.0)
    before = [x.copy() for x in columns[0]]
    step(*columns, lr=1.0, momentum=0.0, guard=guard)
    np.testing.assert_allclose(guard.norm, float(total), rtol=1e-14)
    for p, start, tensor in zip(columns[0], before, tensors, strict=True):
        # PyTorch divides by the norm plus 1e-6.
        np.testing.assert_allclose(start - p, tensor.grad.numpy(), rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("policy", ["skip", "raise"])
def test_nothing_is_touched_by_a_bad_gradient(bad, policy):
    """The first step included, and of a list every array."""
    columns = [[x[:70].copy(), x[70:].copy()] for x in arrays(200)]
    m, v = ([np.zeros_like(x) for x in columns[0]] for _ in range(2))
    columns[1][1][[3, 50]] = bad
    before = [x.copy() for column in (columns[0], m, v) for x in column]
    guard = Guard(nonfinite=policy)
    if policy == "raise":
        with pytest.raises(FloatingPointError, match="2 of the gradients are infinite or NaN; nothing was changed"):
            adam_step(columns[0], columns[1], m, v, 1, guard=guard)
    else:
        adam_step(columns[0], columns[1], m, v, 1, guard=guard)
    assert guard.skipped
    assert guard.nonfinite_count == 2
    assert np.isnan(guard.dot)
    assert_same_bits([x for column in (columns[0], m, v) for x in column], before)
    columns[1][1][[3, 50]] = 0
    adam_step(columns[0], columns[1], m, v, 1, guard=guard)
    assert not guard.skipped
    assert guard.nonfinite_count == 0
    assert all((x != y).any() for x, y in zip(columns[0], before, strict=False))


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"clip_norm": 0.0}, ValueError, "Guard: clip_norm is 0.0; a number > 0"),
        ({"clip_value": -1}, ValueError, "clip_value is -1"),
        ({"nonfinite": "Skip"}, ValueError, "nonfinite is 'Skip'; one of .* did you mean 'skip'"),
    ],
)
def test_unfit_guards(keywords, error, message):
    with pytest.raises(error, match=message):
        Guard(**keywords)


def test_refused_before_any_write():
    p, g, v = (np.ones(6) for _ in range(3))
    guard = Guard()
    for call, error, message in [
        (lambda: step(p, g, v, guard=3), TypeError, r"guard is an int; a nagd_numba\.Guard is needed"),
        (lambda: step(p, g, p, guard=guard), ValueError, "params and vel are the same memory"),
        (lambda: step(p[::2], g[::2], v[::2], guard=guard), ValueError, "a step with a guard needs contiguous arrays"),
        (lambda: step(p, g, v, lr=-1.0, guard=guard), ValueError, "lr is -1.0"),
        (lambda: step(p, g[:3], v, guard=guard), ValueError, r"grads has shape \(3,\)"),
        (lambda: step([p, p], [g, g], [v, v], guard=guard), ValueError, "are the same memory"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert (p == 1).all()
    assert (v == 1).all()
    assert step([], [], [], guard=Guard()) == []


def test_totals_are_added_one_after_another():
    """Python's `sum` is not from 3.12 on: the same bits whatever the version, and on a device."""
    sizes = [1e8, 1.0, 1.0]
    columns = [[np.zeros(1) for _ in sizes], [np.array([x]) for x in sizes], [np.zeros(1) for _ in sizes]]
    guard = Guard()
    step(*columns, guard=guard)
    assert guard.norm == math.sqrt(10.0**16 + 1.0 + 1.0) == 1e8


def test_skipped_steps_are_counted():
    p, g, v = arrays(5)
    guard = Guard(nonfinite="skip")
    for bad in (np.nan, 0.0, np.inf):
        g[0] = bad
        step(p, g, v, guard=guard)
    assert guard.skipped_steps == 2
    assert copy.copy(guard).skipped_steps == 2


@jit
def test_compiled_callers_are_refused():
    @njit
    def user(p, g, v):
        step(p, g, v, guard=1)

    with pytest.raises(TypingError, match="guard is for steps that are called from Python"):
        user(*arrays(5))
