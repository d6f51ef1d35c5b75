"""A guard's loss scale that follows the gradients, against PyTorch's rule."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba import Guard, adam_step, step


def course(guard, bad, dtype=np.float32, size=10):
    """The scales after steps of which some have a gradient that is not finite."""
    p, v, scales = np.zeros(size, dtype), np.zeros(size, dtype), []
    for found in bad:
        g = np.full(size, guard.grad_scale, dtype)
        g[3] = np.inf if found else g[3]
        step(p, g, v, lr=0.0, guard=guard)
        assert guard.skipped == found
        scales.append(guard.grad_scale)
    return scales


@given(
    bad=st.lists(st.booleans(), max_size=30),
    interval=st.integers(1, 4),
    growth=st.sampled_from([2.0, 1.1, 1e20]),
    backoff=st.sampled_from([0.5, 0.9, 1e-5]),
    start=st.sampled_from([2.0**16, 1.0, 3e37]),
)
def test_it_follows_the_rule_of_torch(bad, interval, growth, backoff, start):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    options = {"growth_factor": growth, "backoff_factor": backoff, "growth_interval": interval}
    guard = Guard(nonfinite="skip", grad_scale=float(np.float32(start)), **options)
    scale, tracker = torch.tensor(start, dtype=torch.float32), torch.tensor(0, dtype=torch.int32)
    wanted = []
    for found in bad:
        torch._amp_update_scale_(scale, tracker, torch.tensor(float(found)), growth, backoff, interval)
        wanted.append(scale.item())
    if all(x > 0 for x in wanted):  # torch's scale then stays 0, and every step is left out
        assert course(guard, bad) == wanted


def test_it_is_never_0_nor_infinite():
    guard = Guard(nonfinite="skip", grad_scale=2.0**127, growth_interval=1)
    assert course(guard, [False, False]) == [2.0**127] * 2
    guard = Guard(nonfinite="skip", grad_scale=2.0**-149, growth_interval=1)
    assert course(guard, [True, True]) == [2.0**-149] * 2
    guard = Guard(nonfinite="skip", grad_scale=2.0**127, growth_interval=1)
    assert course(guard, [False, False], np.float64) == [2.0**128, 2.0**129]


def test_lists_have_the_narrower_type():
    columns = [[np.ones(3), np.ones(3, np.float32)] for _ in range(3)]
    guard = Guard(nonfinite="skip", growth_factor=1.1, growth_interval=1)
    step(*columns, guard=guard)
    assert guard.grad_scale == float(np.float32(1.1))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_where_it_was(copied):
    bad = [False, True, False, False, False, False, True, False, False, False]
    whole, first = (Guard(nonfinite="skip", grad_scale=8.0, growth_interval=3) for _ in range(2))
    wanted = course(whole, bad)
    assert len(set(wanted)) > 1
    for k in range(len(bad)):
        scales = course(first, bad[:k])
        second = copied(first)
        assert scales + course(second, bad[k:]) == wanted
        first = Guard(nonfinite="skip", grad_scale=8.0, growth_interval=3)


def test_a_training_with_it_has_the_course_of_a_fixed_scale():
    """The scale is a power of two: it rounds nothing, as long as nothing is too small or too large for float32."""
    rng = np.random.default_rng(0)
    target = rng.normal(size=20).astype(np.float32)
    ends = []
    for options in ({}, {"growth_interval": 5}):
        p, m, v = (np.zeros(20, np.float32) for _ in range(3))
        guard, t = Guard(nonfinite="skip", grad_scale=2.0**120 if options else 1.0, **options), 1
        while t <= 40:
            with np.errstate(over="ignore"):
                g = np.float32(guard.grad_scale) * (np.float32(1e4) * (p - target))
            adam_step(p, g, m, v, t, 0.1, guard=guard)
            t += not guard.skipped
        ends.append(p)
        assert (guard.skipped_steps > 5) == bool(options)
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"growth_interval": 0}, ValueError, "Guard: growth_interval is 0; a whole number from 1 on"),
        ({"growth_interval": 3}, ValueError, "growth_interval is 3 and nonfinite is 'propagate'; \"skip\" is needed"),
        ({"growth_interval": 3, "nonfinite": "raise"}, ValueError, "nonfinite is 'raise'"),
        ({"growth_factor": 1.0}, ValueError, "growth_factor is 1.0; a finite number > 1 is needed"),
        ({"backoff_factor": 1.0}, ValueError, "backoff_factor is 1.0; a finite number > 0 and < 1 is needed"),
    ],
)
def test_what_is_refused(keywords, error, message):
    with pytest.raises(error, match=message):
        Guard(**keywords)


def test_refused_when_set_later():
    p, g, v = (np.ones(6) for _ in range(3))
    guard = Guard(nonfinite="skip", growth_interval=1)
    guard.nonfinite = "propagate"
    with pytest.raises(ValueError, match="step: growth_interval is 1 and nonfinite is 'propagate'; \"skip\""):
        step(p, g, v, guard=guard)
    assert (p == 1).all()
