"""Nesterov's rule: the formulas of every convention, and the algebra that holds to the last bit."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

import nagd_numba
from nagd_numba.optimizers import nesterov
from nagd_numba.optimizers.conventions import BENGIO, CAFFE, CONVENTIONS, KERAS, TORCH
from nagd_numba.optimizers.registry import RULES
from tests.helpers.backends import ELEMENTS, ELEMENTS_FIRST, LONGEST, here
from tests.helpers.bits import assert_same_bits

RULE = RULES["nesterov"]
DTYPES = [np.float32, np.float64]

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])
conventions = pytest.mark.parametrize("convention", range(4), ids=CONVENTIONS)
both = pytest.mark.parametrize("nesterov_flag", [True, False], ids=["nesterov", "heavy-ball"])


@pytest.fixture(params=ELEMENTS_FIRST, ids=lambda backend: backend.name)
def backend(request):
    return here(request.param)


def vectors(seed, n, dtype, count=3, scale=1.0):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=n) * scale).astype(dtype) for _ in range(count)]


def run(backend, p, g, v, lr, momentum, momentum_next=None, options=(TORCH, True, 0, False), weight_decay=0.0):
    """A step on copies: the new (p, v)."""
    p, v = p.copy(), v.copy()
    after = momentum if momentum_next is None else momentum_next
    backend.run(RULE, p, g.copy(), [v], (lr, momentum, after, weight_decay), options)
    return p, v


# ---------------------------------------------------------------- the formulas


@njit
def scalar_step(p, g, v, constants, options):
    return RULE_UPDATE(p, g, (v,), constants, options)


RULE_UPDATE, RULE_CONSTANTS = RULE.update, RULE.constants


def formula(p, g, v, lr, mu, mu_next, w, options):
    """The table in the rule's docstring, in float64 NumPy."""
    convention, is_nesterov, decay, maximize = options
    g = -g if maximize else g
    if decay == nesterov.L2:
        g = g + w * p
    elif decay == nesterov.DECOUPLED:
        p = p - lr * w * p
    if convention == TORCH:
        v_new = mu * v + g
        return p - lr * (g + mu_next * v_new if is_nesterov else v_new), v_new
    if convention == CAFFE:
        v_new = mu * v + lr * g
        return p - ((1 + mu_next) * v_new - mu * v if is_nesterov else v_new), v_new
    v_new = mu * v - lr * g
    if not is_nesterov:
        return p + v_new, v_new
    if convention == KERAS:
        return p + mu_next * v_new - lr * g, v_new
    assert convention == BENGIO
    return p + mu_next * mu * v - (1 + mu_next) * lr * g, v_new


@pytest.mark.parametrize("options", list(RULE.variants()), ids=lambda o: RULE.kernel_name(o))
def test_every_variant_is_its_formula(options):
    """All 48 variants, through one compiled function whose options are ordinary arguments."""
    rng = np.random.default_rng(5)
    for hyper in [(0.1, 0.9, 0.9, 0.0), (0.3, 0.5, 0.8, 0.01), (0.1, 0.0, 0.9, 0.1), (0.1, 0.9, 0.0, 0.1)]:
        p, g, v = rng.normal(size=3)
        constants = RULE_CONSTANTS.py_func if hasattr(RULE_CONSTANTS, "py_func") else RULE_CONSTANTS
        scalars = tuple(float(x) for x in constants(hyper, np.float64, options))
        (new_p, (new_v,)) = scalar_step(p, g, v, scalars, options)
        expected = formula(p, g, v, *hyper, options)
        # At most 8 roundings of terms that are each below 4 in size.
        bound = 8 * 4 * np.finfo(np.float64).eps / 2
        np.testing.assert_allclose((new_p, new_v), expected, rtol=0, atol=bound)


@dtypes
@given(seed=st.integers(0, 2**32), n=st.integers(1, LONGEST), momentum=st.sampled_from([0.5, 0.9, 0.99]))
def test_torch_convention_rounds_like_torch(dtype, backend, seed, n, momentum):
    """`b = rnd(rnd(mu b) + g)`, `p = fma(-lr, fma(mu, b, g), p)`, in exact rational arithmetic."""
    from tests.helpers import oracles

    p, g, v = vectors(seed, min(n, 10), dtype)
    lr, mu = dtype(0.1), dtype(momentum)
    b = mu * v + g
    d = [oracles.fma(mu, x, y, dtype) for x, y in zip(b, g, strict=True)]
    expected = np.array([oracles.fma(-lr, x, y, dtype) for x, y in zip(d, p, strict=True)], dtype)
    assert_same_bits(run(backend, p, g, v, 0.1, momentum), (expected, b))


@dtypes
@given(seed=st.integers(0, 2**32), n=st.integers(1, LONGEST), lr=st.sampled_from([0.5, 0.1, 1e-3]))
def test_keras_convention_rounds_like_numpy(dtype, backend, seed, n, lr):
    p, g, v = vectors(seed, n, dtype)
    mu = dtype(0.9)
    m = mu * v - dtype(lr) * g
    expected = p + (mu * m - dtype(lr) * g)
    assert_same_bits(run(backend, p, g, v, lr, 0.9, options=(KERAS, True, 0, False)), (expected, m))


# ---------------------------------------------------------------- exact algebra


def elements(dtype):
    width = np.dtype(dtype).itemsize * 8
    big = 2.0**60 if dtype is np.float32 else 2.0**500
    return st.floats(-big, big, width=width, allow_nan=False)


@dtypes
@conventions
@both
@given(data=st.data())
def test_momentum_zero_is_gradient_descent_bit_for_bit(dtype, backend, convention, nesterov_flag, data):
    """Whatever the velocity held, infinities, NaN and signed zeros included."""
    n = data.draw(st.integers(1, 12))
    lists = [data.draw(st.lists(elements(dtype), min_size=n, max_size=n)) for _ in range(3)]
    p, g, v = (np.array(x, dtype) for x in lists)
    stale = np.where(np.arange(n) % 3 == 1, dtype(np.inf), np.where(np.arange(n) % 3 == 2, dtype(np.nan), v))
    lr = data.draw(st.sampled_from([0.0, 0.01, 1.5]))
    new_p, new_v = run(backend, p, g, stale, lr, 0.0, options=(convention, nesterov_flag, 0, False))
    if convention == TORCH:
        from tests.helpers import oracles

        descent = np.array([oracles.fma(-dtype(lr), x, y, dtype) for x, y in zip(g, p, strict=True)], dtype)
        np.testing.assert_array_equal(new_p, descent)
        zeros = new_p == 0  # the oracle does not know their signs: -0 comes of two summands -0 alone
        both = np.signbit(p[zeros]) & (p[zeros] == 0) & np.signbit(-dtype(lr) * g[zeros])
        underflow = p[zeros] == 0
        np.testing.assert_array_equal(np.signbit(new_p[zeros])[underflow], both[underflow])
        assert_same_bits([new_v], [g])
    else:
        with np.errstate(over="ignore"):
            assert_same_bits([new_p], [p - dtype(lr) * g])


@dtypes
@conventions
@both
@given(seed=st.integers(0, 2**32), n=st.integers(1, LONGEST))
def test_sign_symmetry(dtype, backend, convention, nesterov_flag, seed, n):
    p, g, v = vectors(seed, n, dtype)
    options = (convention, nesterov_flag, nesterov.L2, False)
    plus = run(backend, p, g, v, 0.1, 0.9, 0.8, options, 0.01)
    minus = run(backend, -p, -g, -v, 0.1, 0.9, 0.8, options, 0.01)
    for a, b in zip(plus, minus, strict=True):
        np.testing.assert_array_equal(a, -b)


@dtypes
@conventions
@given(seed=st.integers(0, 2**32), n=st.integers(1, LONGEST))
def test_maximize_is_the_negated_gradient(dtype, backend, convention, seed, n):
    p, g, v = vectors(seed, n, dtype)
    up = run(backend, p, g, v, 0.1, 0.9, options=(convention, True, 0, True))
    down = run(backend, p, -g, v, 0.1, 0.9, options=(convention, True, 0, False))
    assert_same_bits(up, down)


@dtypes
@conventions
@given(seed=st.integers(0, 2**32), n=st.integers(1, LONGEST), power=st.integers(-20, 20))
def test_powers_of_two_scale_exactly(dtype, backend, convention, seed, n, power):
    """x -> 2^k x, g -> 2^-k g, lr -> 4^k lr: a change of units, with no rounding of its own."""
    p, g, v = vectors(seed, n, dtype)
    scale = dtype(2.0**power)
    state = 1 / scale if convention == TORCH else scale  # torch's velocity is in the gradient's units
    lr = 2.0**-4
    options = (convention, True, 0, False)
    new_p, new_v = run(backend, p, g, v, lr, 0.9, 0.7, options)
    scaled_p, scaled_v = run(backend, p * scale, g / scale, v * state, lr * float(scale) ** 2, 0.9, 0.7, options)
    assert_same_bits((scaled_p, scaled_v), (new_p * scale, new_v * state))


@dtypes
@conventions
@both
@given(seed=st.integers(0, 2**32), n=st.integers(1, LONGEST))
def test_no_gradient_and_no_velocity_is_a_fixed_point(dtype, backend, convention, nesterov_flag, seed, n):
    (p,) = vectors(seed, n, dtype, count=1)
    zero = np.zeros(n, dtype)
    new_p, new_v = run(backend, p, zero, zero, 0.1, 0.9, 0.8, (convention, nesterov_flag, 0, False))
    assert_same_bits([new_p], [p])
    np.testing.assert_array_equal(new_v, 0)


# ---------------------------------------------------------------- conventions against each other


def trajectory(backend, convention, rates, nesterov_flag=True, correct=False):
    """Steps on a quadratic; `correct` scales the state when the rate changes, as the docstring says."""
    curvature = np.array([1.0, 0.1, 0.01])
    p, v = np.array([1.0, -2.0, 3.0]), np.zeros(3)
    last = rates[0]
    for lr in rates:
        if correct and convention != TORCH:
            v = v * (lr / last)
        p, v = run(backend, p, curvature * p, v, lr, 0.9, options=(convention, nesterov_flag, 0, False))
        last = lr
    return p


@both
def test_conventions_agree_at_a_constant_rate(backend, nesterov_flag):
    paths = [trajectory(backend, c, [0.5] * 30, nesterov_flag) for c in range(4)]
    # 30 steps of at most 8 roundings of numbers below 8, on a contraction (no amplification).
    bound = 30 * 8 * 8 * np.finfo(float).eps
    for path in paths[1:]:
        np.testing.assert_allclose(path, paths[0], rtol=0, atol=bound)


def test_conventions_differ_after_a_change_of_rate(backend):
    rates = [0.5] * 10 + [0.05] * 10
    torch = trajectory(backend, TORCH, rates)
    for convention in (KERAS, CAFFE, BENGIO):
        assert np.abs(trajectory(backend, convention, rates) - torch).max() > 1e-2
        corrected = trajectory(backend, convention, rates, correct=True)
        np.testing.assert_allclose(corrected, torch, rtol=0, atol=20 * 8 * 8 * np.finfo(float).eps)


def test_decoupled_decay_is_l2_only_without_momentum(backend):
    p, g, v = vectors(3, 20, np.float64)
    for momentum, equal in ((0.0, True), (0.9, False)):
        ways = []
        for decay in (nesterov.L2, nesterov.DECOUPLED):
            x, velocity = p, v * 0
            for _ in range(5):
                x, velocity = run(
                    backend, x, g, velocity, 0.1, momentum, options=(TORCH, True, decay, False), weight_decay=0.1
                )
            ways.append(x)
        assert np.allclose(*ways, rtol=0, atol=5 * 8 * 8 * np.finfo(float).eps) == equal


# Each value of each option, and in CI a quarter of all combinations: each compiles.
COVERING = [("torch", True, 0, False), ("keras", False, 1, True), ("caffe", True, 2, True), ("bengio", False, 0, False)]
QUARTER = [
    (name, flag, decay, maximize)
    for name, flag, maximize, decay in itertools.product(CONVENTIONS, (True, False), (False, True), range(3))
    if (CONVENTIONS.index(name) + flag + maximize + decay) % 4 == 0
]


@pytest.mark.parametrize(
    ("convention", "nesterov_flag", "decay", "maximize"),
    [*COVERING, *(pytest.param(*row, marks=pytest.mark.ci) for row in QUARTER if row not in COVERING)],
)
def test_named_options_reach_the_kernel(convention, nesterov_flag, decay, maximize):
    """`step`'s own arguments against the rule's options."""
    p, g, v = vectors(11, 50, np.float32)
    x, velocity = p.copy(), v.copy()
    weight_decay = 0.1 if decay else 0.0
    named = {"convention": convention, "nesterov": nesterov_flag, "maximize": maximize}
    decayed = {"weight_decay": weight_decay, "decoupled": decay == nesterov.DECOUPLED}
    nagd_numba.step(x, g, velocity, 0.1, 0.9, 0.8, **named, **decayed)
    options = (CONVENTIONS.index(convention), nesterov_flag, decay, maximize)
    assert_same_bits((x, velocity), run(ELEMENTS, p, g, v, 0.1, 0.9, 0.8, options, weight_decay))
