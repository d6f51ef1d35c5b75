"""`Guard` where sums of squares, factors and reciprocals leave the range of their types; attributes set later."""

import copy
import math
import pickle

import numpy as np
import pytest

from nagd_numba import Guard, step

SIZES = (np.float64, [1e154, 1e200, 1.7e308, 1e-160, 1e-300, 5e-324]), (np.float32, [3e38, 1e-38, 1e-45])


def stepped(g, guard, v=None):
    """What one step of gradient descent with lr = 1 takes away from 0."""
    p, v = np.zeros_like(g), np.zeros_like(g) if v is None else v
    step(p, g, v, lr=1.0, momentum=0.0, guard=guard)
    return -p


@pytest.mark.parametrize("policy", ["propagate", "skip", "raise"])
@pytest.mark.parametrize(("dtype", "size"), [(dtype, size) for dtype, sizes in SIZES for size in sizes])
def test_a_gradient_of_any_size_is_clipped(dtype, size, policy):
    direction = np.array([3, 0, -4], dtype)
    g = np.ldexp(direction, math.frexp(size)[1] - 3)
    if not g.any():
        g[...] = np.sign(direction) * dtype(size)
    wide = g.astype(np.longdouble)
    norm = np.sqrt((wide * wide).sum())
    clip = float(norm / 8) if float(norm / 8) > np.finfo(dtype).tiny else float(np.finfo(dtype).tiny)
    for limit in (clip, 1.0):
        guard = Guard(clip_norm=limit, nonfinite=policy)
        want = (wide * min(np.longdouble(1), limit / norm)).astype(dtype)
        used = stepped(g, guard)
        np.testing.assert_allclose(used, want, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).smallest_subnormal)
        np.testing.assert_allclose(guard.norm, float(norm), rtol=1e-14)
        assert guard.nonfinite_count == 0
        assert not guard.skipped


def test_a_norm_beyond_the_largest_number():
    g = np.full(10_000, 1.7e308)
    guard = Guard(clip_norm=1.0, nonfinite="raise")
    np.testing.assert_allclose(stepped(g, guard), 0.01, rtol=1e-14)
    assert guard.norm == math.inf
    assert guard.nonfinite_count == 0
    scaled = Guard(grad_scale=1e10, nonfinite="raise")
    np.testing.assert_allclose(stepped(g, scaled), 1.7e298, rtol=1e-14)
    assert scaled.norm == pytest.approx(1.7e300, rel=1e-14)


def test_the_sum_over_arrays_overflows():
    """Each array's sum of squares is finite, that of all is not; one array of another type."""
    g = [np.full(1, 1.2e154), np.full(1, 1.2e154), np.full(1, 1e30, np.float32)]
    p, v = ([np.zeros_like(x) for x in g] for _ in range(2))
    guard = Guard(clip_norm=1.0)
    step(p, g, v, lr=1.0, momentum=0.0, guard=guard)
    assert guard.norm == pytest.approx(math.sqrt(2) * 1.2e154, rel=1e-14)
    np.testing.assert_allclose([p[0][0], p[1][0]], -math.sqrt(0.5), rtol=1e-14)
    assert p[2][0] == 0


def test_an_ordinary_gradient_has_the_bits_of_a_scaled_one():
    """Powers of two round nothing: the same gradient where no sum leaves the range."""
    g = np.random.default_rng(0).normal(size=5000)
    want, found = Guard(clip_norm=2.0**-3), Guard(clip_norm=2.0**597)
    used = stepped(g, want)
    np.testing.assert_array_equal(stepped(np.ldexp(g, 600), found), np.ldexp(used, 600))
    assert found.norm == math.ldexp(want.norm, 600)


@pytest.mark.parametrize("policy", ["propagate", "raise"])
@pytest.mark.parametrize(("dtype", "scale"), [(np.float64, 1e-320), (np.float64, 1e308), (np.float32, 1e-44)])
def test_scales_without_a_reciprocal(dtype, scale, policy):
    small = dtype(scale) if scale < 1 else dtype(1e307)
    g = np.array([small, 0, -small, -0.0], dtype)
    guard = Guard(grad_scale=scale, nonfinite=policy)
    want = (g.astype(np.longdouble) / scale).astype(dtype)
    v = np.array([2, 1, 1, 1], dtype)
    used = stepped(g, guard, v)
    np.testing.assert_allclose(used, want, rtol=4 * np.finfo(dtype).eps)
    assert guard.norm == pytest.approx(float(np.hypot(want[0], want[2])), rel=1e-6)
    assert guard.dot == pytest.approx(float(want.astype(float) @ v.astype(float)), rel=1e-6)
    assert guard.nonfinite_count == 0


@pytest.mark.parametrize(("dtype", "size", "scale"), [(np.float32, 1e30, 1e-10), (np.float64, 1.0, 1e-320)])
def test_a_quotient_that_overflows_counts(dtype, size, scale):
    g = np.array([size, 0, size], dtype)
    guard = Guard(grad_scale=scale, nonfinite="raise")
    with pytest.raises(FloatingPointError, match="2 of the gradients are infinite or NaN"):
        stepped(g, guard)
    for options in ({"clip_norm": 2.0}, {"clip_value": 1.5}):
        guard = Guard(grad_scale=scale, nonfinite="raise", **options)
        size_used = options.get("clip_value", 2 / math.sqrt(2))
        np.testing.assert_allclose(stepped(g, guard), [size_used, 0, size_used], rtol=1e-6)
        assert guard.nonfinite_count == 0
    guard = Guard(grad_scale=scale)
    stepped(g, guard)
    assert guard.nonfinite_count == 2


@pytest.mark.parametrize("sign", [1, -1])
def test_the_products_with_the_velocity_overflow(sign):
    """Their sum has the right sign, and is not NaN; in the type's range it is right."""
    g, v = np.array([1e300, -1e300, 1e150]), np.array([1e200, 1e200, sign * 1e150])
    guard = Guard()
    step(np.zeros(3), g, v, lr=0.0, momentum=1.0, guard=guard)
    assert guard.dot == math.inf  # v + g
    g[:2] = 0
    v[:] = [1, 1, sign * 1e250]
    step(np.zeros(3), g, v, lr=0.0, momentum=1.0, guard=guard)
    assert guard.dot == sign * math.inf
    guard.grad_scale = 1e200
    step(np.zeros(3), g, v, lr=0.0, momentum=1.0, guard=guard)
    assert guard.dot == pytest.approx(sign * 1e200, rel=1e-14)


def test_infinite_gradients_are_told_from_large_ones():
    g = np.array([1e300, math.inf, math.nan, 1.0])
    guard = Guard(clip_norm=1.0, nonfinite="skip")
    assert not stepped(g, guard).any()
    assert guard.skipped
    assert guard.nonfinite_count == 2


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("clip_norm", -0.5, ValueError, "Guard: clip_norm is -0.5; a number > 0 is needed"),
        ("clip_norm", math.nan, ValueError, "clip_norm is nan"),
        ("clip_norm", True, TypeError, "clip_norm is True; a number"),
        ("clip_value", "1", TypeError, "clip_value is '1'"),
        ("clip_value", 0, ValueError, "clip_value is 0"),
        ("nonfinite", "Raise", ValueError, "nonfinite is 'Raise'; .*did you mean 'raise'"),
        ("nonfinite", None, ValueError, "nonfinite is None"),
        ("grad_scale", 0.0, ValueError, r"grad_scale is 0\.0; a finite number > 0"),
        ("grad_scale", math.inf, ValueError, "grad_scale is inf"),
        ("grad_scale", math.nan, ValueError, "grad_scale is nan"),
        ("grad_scale", None, TypeError, "grad_scale is None"),
    ],
)
def test_attributes_are_checked_when_set(name, value, error, message):
    guard = Guard(1.0, 2.0, "skip", 4.0)
    before = getattr(guard, name)
    with pytest.raises(error, match=message):
        setattr(guard, name, value)
    assert getattr(guard, name) == before
    with pytest.raises(error, match=message):
        Guard(**{name: value})


def test_attributes_set_later_are_used():
    guard = Guard()
    assert (guard.clip_norm, guard.clip_value, guard.nonfinite, guard.grad_scale) == (
        math.inf,
        math.inf,
        "propagate",
        1,
    )
    guard.grad_scale, guard.clip_norm = np.float32(4), 1
    np.testing.assert_allclose(stepped(np.array([12.0, 16.0]), guard), [0.6, 0.8])
    other = pickle.loads(pickle.dumps(copy.copy(guard)))
    other.clip_norm = None
    np.testing.assert_allclose(stepped(np.array([12.0, 16.0]), other), [3, 4])
    assert Guard(clip_norm=other.clip_norm).clip_norm == math.inf
    assert guard.clip_norm == 1


@pytest.mark.parametrize("name", ["clip_norm", "clip_value"])
def test_limits_that_vanish_in_the_type_of_the_arrays(name):
    """They would make every step 0, silently."""
    with pytest.raises(ValueError, match=rf"step: {name} is 1e-50; a number >= 1.2e-38 is needed \(in float32\)"):
        stepped(np.ones(3, np.float32), Guard(**{name: 1e-50}))
