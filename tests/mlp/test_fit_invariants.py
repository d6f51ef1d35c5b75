"""`MLP.fit`: what weights, dropout, the order of hidden units and the order of the rows must do."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba import MLP, step
from nagd_numba.mlp.cpu import trainer
from nagd_numba.schedules import Constant
from tests.helpers.backends import JIT_OFF
from tests.helpers.training import TANH, assert_same, fitted, permutation, problem

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled kernels")


# --- invariants --------------------------------------------------------------------------------------------------


def test_without_momentum_all_methods_are_gradient_descent():
    net, params, X, y = problem()
    descent = fitted(net, params, X, y, optimizer="gd")
    for optimizer in ("nag", "momentum"):
        for momentum in (0.0, Constant(0), lambda t: 0):
            assert_same(fitted(net, params, X, y, optimizer=optimizer, momentum=momentum), descent)
    assert_same(fitted(net, params, X, y, optimizer="gd", momentum=0.9), descent)


def test_hidden_units_have_no_order():
    net, params, X, y = problem((5, 7, 2), **TANH)
    order = np.random.default_rng(0).permutation(7)

    def permuted(vector):
        views = net.unflatten(vector.copy())
        views["W1"][...], views["b1"][...] = views["W1"][:, order], views["b1"][order]
        views["W2"][...] = views["W2"][order]
        return views.flat

    got, vel, history = fitted(net, permuted(params), X, y)
    want = fitted(net, params, X, y)
    # As with PyTorch above: 12 updates with sums in another order.
    np.testing.assert_allclose(got, permuted(want[0]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(vel, permuted(want[1]), rtol=0, atol=1e-11)
    np.testing.assert_allclose(history["loss"], want[2]["loss"], rtol=1e-12)


def test_weights_of_one_are_none():
    net, params, X, y = problem(l2=0.1)
    for weights in (np.ones(50), np.ones(50, int), [True] * 50, np.ones(50, np.float32)):
        assert_same(fitted(net, params, X, y, sample_weight=weights), fitted(net, params, X, y))


def test_the_scale_of_the_weights_has_no_influence():
    net, params, X, y = problem(l2=0.1)
    weights = np.random.default_rng(0).uniform(0, 1, 50).astype(np.float32)
    assert_same(  # powers of two are exact
        fitted(net, params, X, y, sample_weight=8 * weights), fitted(net, params, X, y, sample_weight=weights)
    )


def test_weights_are_repetitions():
    """Whole batches: a weight of 2 is a sample that is there twice; copies that share a weight of 1 are one sample."""
    net, params, X, y = problem((5, 7, 2), **TANH, l2=0.1)
    weights = np.random.default_rng(0).integers(0, 4, 50)
    rows = np.repeat(np.arange(50), weights)
    weighed = fitted(net, params, X, y, 5, 50, sample_weight=weights)
    repeated = fitted(net, params, X[rows], y[rows], 5, len(rows))
    twice = fitted(net, params, np.tile(X, (2, 1)), np.tile(y, (2, 1)), 5, 100, sample_weight=np.full(100, 0.5))
    # 5 updates of sums of up to 150 terms of order 1, by the reckoning above.
    bound = 5 * 5 * 0.05 * 200 * np.finfo(float).eps * 10
    np.testing.assert_allclose(weighed[0], repeated[0], rtol=0, atol=bound)
    np.testing.assert_allclose(weighed[2]["loss"], repeated[2]["loss"], rtol=1e-12)
    np.testing.assert_allclose(twice[0], fitted(net, params, X, y, 5, 50)[0], rtol=0, atol=bound)


def test_weights_of_zero_are_no_samples():
    """To the last bit: adding exact zeros changes no sum (within one block of 128 rows)."""
    net, params, X, y = problem(rows=100, l2=0.1)
    there = np.random.default_rng(0).random(100) < 0.6
    got = fitted(net, params, X, y, 5, 100, sample_weight=there, shuffle=False)
    want = fitted(net, params, X[there], y[there], 5, 100, shuffle=False)
    assert np.array_equal(got[0], want[0])
    assert np.array_equal(got[1], want[1])
    np.testing.assert_allclose(got[2]["loss"], want[2]["loss"], rtol=1e-14)


def test_batches_without_weight():
    """Their gradient is 0, not 0/0; that of the penalty stays."""
    net, params, X, y = problem(rows=40)
    weights = np.repeat([0.0, 1.0, 0.0, 0.0], 10)
    got = fitted(net, params, X, y, 1, 10, sample_weight=weights, shuffle=False, momentum=0.0)
    assert np.array_equal(got[0], fitted(net, params, X[10:20], y[10:20], 1, 10, shuffle=False, momentum=0.0)[0])
    assert got[2].last("loss") == pytest.approx(net.loss(params, X[10:20], y[10:20]), rel=1e-12)


def test_dropout_of_rate_zero_is_none():
    net, params, X, y = problem()
    assert_same(fitted(MLP((5, 7, 3), dropout=0.0), params, X, y), fitted(net, params, X, y))


def test_dropout_keeps_the_mean_gradient():
    """All hidden units are 1 and the last weights 0: the first gradient of weight (j, c) is the mean over the rows of
    h_ij (1/2 - onehot_c), where dropout makes each h_ij 0 or 1/(1-rate), with mean 1 and variance rate/(1-rate)."""
    rows, width, rate = 500, 40, 0.3
    net = MLP((1, width, 2), dropout=rate)
    params = np.zeros(net.size, np.float32)
    net.unflatten(params)["W1"][...] = 1
    X, y = np.ones((rows, 1), np.float32), np.zeros(rows, int)
    means = []
    for seed in range(10):
        _, vel, _ = fitted(net, params, X, y, 1, rows, momentum=0.0, seed=seed)
        views = net.unflatten(vel)
        np.testing.assert_allclose(views["W2"][:, 0], -views["W2"][:, 1])
        means.append(-2 * views["W2"][:, 0])
        kept = means[-1] * (1 - rate) * rows
        np.testing.assert_allclose(kept, kept.round(), atol=1e-2)  # whole numbers of rows
    means = np.array(means)
    deviation = math.sqrt(rate / (1 - rate) / rows)
    assert abs(means.mean() - 1) <= 5 * deviation / math.sqrt(means.size)
    assert means.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * means.size))
    assert len({tuple(row) for row in means}) == 10  # another mask for each seed


def test_dropout_differs_between_steps_and_epochs():
    """At a rate of 0 and with equal samples only dropout makes a difference."""
    net, params, X, y = problem((5, 40, 3), dropout=0.5, rows=8)
    X[:], y[:] = X[0], y[0]
    _, _, history = fitted(net, params, X, y, 6, 8, lr=0.0)
    assert len(set(history["loss"])) == 6


# --- the order of the rows ---------------------------------------------------------------------------------------


def shuffled(rows, seed, epoch):
    orders = np.empty((1, len(rows)), np.int64)
    trainer.shuffled(orders, np.asarray(rows, np.int64), np.array([seed], np.uint64), epoch)
    return orders[0]


@given(rows=st.integers(1, 300), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**40))
def test_the_order_is_a_permutation_of_the_rows(rows, seed, epoch):
    given_rows = np.arange(rows) * 3 + 7
    order = shuffled(given_rows, seed, epoch)
    assert sorted(order) == list(given_rows)
    assert list(order) == permutation(given_rows.tolist(), seed, epoch)


def test_every_order_is_equally_likely():
    """The number of each of 24 orders in 4800: chi squared has 23 degrees of freedom, variance 46."""
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for seed in range(4):
        for epoch in range(1200):
            counts[tuple(int(i) for i in shuffled(range(4), seed, epoch))] += 1
    chi_squared = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert chi_squared <= 23 + 5 * math.sqrt(46)


def test_orders_differ_between_epochs_and_seeds():
    orders = [shuffled(range(100), seed, epoch).tolist() for seed in range(5) for epoch in range(5)]
    for a, b in itertools.combinations(orders, 2):
        # Fixed points of a random permutation: Poisson with mean 1.
        assert sum(x == y for x, y in zip(a, b, strict=True)) <= 10


def test_the_order_of_an_epoch_is_that_of_the_run():
    """With one row a batch and a rate of 0 up to its last batch, the last row alone makes the step."""
    net, params, X, y = problem(rows=10)
    for epochs in (1, 2, 3):
        last = 10 * epochs - 1
        got, _, _ = fitted(
            net, params, X, y, epochs, 1, lr=lambda t, last=last: 0.1 * (t == last), momentum=0.0, seed=8
        )
        i = permutation(range(10), 8, epochs - 1)[-1]
        assert (
            got.tobytes()
            == step(params.copy(), net.value_and_grad(params, X[[i]], y[[i]])[1], params * 0, 0.1, 0.0).tobytes()
        )
