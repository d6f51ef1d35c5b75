"""FISTA with its own arrays: the method on paper, its bound, Nesterov's rule, and exact zeros."""

import numpy as np
import pytest
from numba import njit

import nagd_numba
from nagd_numba import fista_step, fista_t, fista_update, step
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits

STEPS = 20 if JIT_OFF else 200


def problem(seed=0, n=30):
    """A singular quadratic whose gradient has the Lipschitz constant 1, and where it is least."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return (q * np.linspace(0, 1, n)) @ q.T, q @ rng.normal(size=n)


def soft(x, threshold):
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


PROXES = {"none": lambda x: x, "l1": lambda x: soft(x, 0.5 * 0.03), "nonneg": lambda x: np.maximum(x, 0)}


@pytest.mark.parametrize("prox", PROXES)
def test_is_the_method_on_paper(prox):
    a, optimum = problem()
    y, t = np.zeros(len(a)), 1.0
    iterate = y.copy()
    x = before = ahead = np.zeros(len(a))
    for _ in range(STEPS):
        fista_step(y, a @ (y - optimum), iterate, t, 0.5, prox=prox, weight=0.03)
        x = PROXES[prox](ahead - 0.5 * (a @ (ahead - optimum)))
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead, before = x + (t - 1) / t_next * (x - before), x
        t = fista_t(t)
        assert t == t_next
    np.testing.assert_allclose(iterate, x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(y, ahead, rtol=0, atol=1e-12)
    if prox == "l1":
        assert ((iterate == 0) == (x == 0)).all()
        assert (iterate == 0).any()
    assert prox != "nonneg" or (iterate >= 0).all()


def test_bound():
    """F(x_k) - F* <= 2 |x_0 - x*|^2 / (lr (k+1)^2) for a lasso, whose minimum 20,000 steps find to 1e-12."""
    a, optimum = problem(1)

    def objective(x):
        return 0.5 * (x - optimum) @ a @ (x - optimum) + 0.03 * np.abs(x).sum()

    def path(steps):
        y, t = np.zeros(len(a)), 1.0
        x = y.copy()
        for k in range(1, steps + 1):
            fista_step(y, a @ (y - optimum), x, t, 1.0, prox="l1", weight=0.03)
            t = fista_t(t)
            yield k, x

    best = None
    for _, x in path(20 if JIT_OFF else 20_000):
        best = x
    if JIT_OFF:
        return
    least, radius2 = objective(best), best @ best
    for k, x in path(200):
        assert objective(x) - least <= 2 * radius2 / (k + 1) ** 2 + 1e-12


def test_without_a_prox_it_is_nesterovs_rule_with_two_momenta():
    a, optimum = problem(2)
    y, t = np.zeros(len(a)), 1.0
    x, p, v, momentum = y.copy(), y.copy(), y.copy(), 0.0
    for _ in range(STEPS):
        after = (t - 1) / fista_t(t)
        fista_step(y, a @ (y - optimum), x, t, 0.9)
        step(p, a @ (p - optimum), v, 0.9, momentum, after)
        t, momentum = fista_t(t), after
    np.testing.assert_allclose(p, y, rtol=0, atol=1e-12)
    assert np.abs(y - x).max() > 1e-6  # the two points are two


def test_a_change_of_the_step_size_needs_no_correction():
    """The iterate is kept, not a velocity: backtracking only gives another `lr`."""
    a, optimum = problem(3)
    y, t = np.zeros(len(a)), 1.0
    x = y.copy()
    for k in range(5):
        was = x.copy()
        point, lr = y.copy(), 0.5**k
        fista_step(y, a @ (y - optimum), x, t, lr)
        np.testing.assert_allclose(x, point - lr * (a @ (point - optimum)), rtol=0, atol=1e-14)
        np.testing.assert_allclose(y, x + (t - 1) / fista_t(t) * (x - was), rtol=0, atol=1e-14)
        t = fista_t(t)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"t": 0.5}, ValueError, "t is 0.5; a finite number >= 1"),
        ({"t": "1"}, TypeError, "t is '1'; a number is needed"),
        ({"prox": "L1"}, ValueError, "prox is 'L1'; one of .* did you mean 'l1'"),
        ({"weight": -1.0}, ValueError, "weight is -1.0"),
        ({"iterate": np.ones(4)}, ValueError, r"iterate has shape \(4,\)"),
    ],
)
def test_refused_before_any_write(changes, error, message):
    ones = {name: np.ones(5) for name in ("params", "grads", "iterate")}
    with pytest.raises(error, match=message):
        fista_step(**{**ones, "t": 1.0, **changes})
    with pytest.raises(ValueError, match="are the same memory"):
        fista_step(ones["params"], ones["grads"], ones["params"], 1.0)
    assert all((x == 1).all() for x in ones.values())


@pytest.mark.slow
@pytest.mark.skipif(JIT_OFF, reason="is about compiled callers")
def test_inside_njit():
    @njit
    def user(y, x, b, steps):
        t = 1.0
        for _ in range(steps):
            nagd_numba.fista_step(y, y - b, x, t, 0.5, prox="l1", weight=1.0)
            t = fista_t(t)
        z, _ = fista_update(y[0], b[0], x[0], 0.5, 0.0)
        return z

    b = np.array([3.0, 0.5, -2.0])
    y, x = np.zeros(3), np.zeros(3)
    last = user(y, x, b, 100)
    p, iterate, t = np.zeros(3), np.zeros(3), 1.0
    for _ in range(100):
        fista_step(p, p - b, iterate, t, 0.5, prox="l1", weight=1.0)
        t = fista_t(t)
    assert_same_bits((y, x), (p, iterate))
    assert last == y[0] - 0.5 * b[0]
    with pytest.raises(ValueError, match="fista_step: lr must be a finite number >= 0"):
        fista_in_njit(y, x, b)


@njit
def fista_in_njit(y, x, b):
    fista_step(y, b, x, 1.0, -1.0)
