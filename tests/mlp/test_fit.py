"""`MLP.fit`: a loop of `value_and_grad` and `step` to the last bit, whatever it runs on, and when it stops."""

import functools
import itertools
import math
import os
import subprocess
import sys
import threading
import tracemalloc
import warnings

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba import MLP, step
from nagd_numba.cli.data import load_digits
from nagd_numba.history import History
from nagd_numba.kernels import autotune
from nagd_numba.kernels.threading_layer import parallel_allowed
from nagd_numba.mlp.cpu import trainer
from nagd_numba.mlp.dataset import samples, split
from nagd_numba.mlp.dropout import splitmix
from nagd_numba.mlp.stopping import Limits
from nagd_numba.schedules import Adaptive, Constant, Cosine, Fista, Schedule
from tests.helpers.backends import JIT_OFF
from tests.helpers.training import assert_same, changed, fitted, problem, read_only

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled kernels")

TANH = {"activation": "tanh", "loss": "mse", "dtype": "float64"}
BINARY = {"loss": "binary_cross_entropy"}
EPS32 = float(np.finfo(np.float32).eps)


def word(key, index):
    return int(splitmix(np.uint64(key), index))


def permutation(rows, seed, epoch):
    """Fisher's and Yates's shuffle with the documented numbers."""
    order = list(rows)
    key = word(word(seed, 1 << 63), epoch)
    for i in range(len(order) - 1, 0, -1):
        k = ((word(key, i) >> 32) * (i + 1)) >> 32
        order[i], order[k] = order[k], order[i]
    return order


def by_hand(
    net, params, X, y, epochs=3, batch=16, lr=0.05, momentum=0.9, optimizer="nag", seed=0, shuffle=True, vel=None
):
    """The training of `fit` as a loop in Python; `lr` and `momentum` may be functions.  Returns the losses as well."""
    params, vel = params.copy(), np.zeros_like(params) if vel is None else vel.copy()
    rate = lr if callable(lr) else lambda t: lr
    mu = (lambda t: 0.0) if optimizer == "gd" else momentum if callable(momentum) else lambda t: momentum
    t, losses = 0, []
    for epoch in range(epochs):
        order = permutation(range(len(X)), seed, epoch) if shuffle else range(len(X))
        total = 0.0
        for first in range(0, len(X), batch):
            rows = list(order[first : first + batch])
            loss, grads = net.value_and_grad(params, X[rows], y[rows], dropout_seed=word(seed, t))
            step(params, grads, vel, rate(t), mu(t), momentum_next=mu(t + 1), nesterov=optimizer != "momentum")
            vel[abs(vel) < np.finfo(vel.dtype).smallest_normal] = 0
            total += loss * len(rows)
            t += 1
        losses.append(total / len(X))
    return params, vel, losses


# --- the loop that it is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "options"),
    [
        ({}, {}),
        ({}, {"optimizer": "momentum"}),
        ({}, {"optimizer": "gd"}),
        ({}, {"seed": 2**64 - 1}),
        ({}, {"shuffle": False}),
        ({"l2": 0.1}, {}),
        ({"dropout": 0.4}, {}),
        ({"dropout": 0.4, "l2": 0.1, "sizes": (5, 7, 6, 3)}, {"seed": 3}),
        ({"rows": 9}, {"batch_size": 1}),
        ({"rows": 1}, {"batch_size": 32}),
        ({"rows": 33}, {"batch_size": 33}),
        ({"sizes": (5, 3)}, {}),
        ({"sizes": (5, 7, 6, 4, 3)}, {}),
        ({"sizes": (1, 1, 1, 2)}, {}),
        ({"sizes": (33, 70, 10), "rows": 70}, {"batch_size": 64}),
        ({"sizes": (5, 600, 3), "rows": 70}, {"batch_size": 64}),  # rows of weights far apart
        ({"rows": 300}, {"batch_size": 290}),  # more terms than a chain has
        ({}, {"lr": lambda t: 0.1 / (t + 1), "momentum": lambda t: 1 - 1 / (t + 2)}),
        ({}, {"lr": lambda t: 0.1 / (t + 1)}),
        ({}, {"momentum": lambda t: 1 - 1 / (t + 2)}),
        ({"sizes": (33, 70, 10)}, {"momentum": lambda t: 0.5 * (t % 2)}),  # one of the two momenta is 0
        ({}, {"lr": 0.0}),
        (TANH, {}),
        ({**TANH, "sizes": (3, 4, 8, 2), "l2": 0.03}, {"batch_size": 7}),
        ({**BINARY, "sizes": (5, 7, 2)}, {}),
    ],
)
def test_it_is_a_loop_of_value_and_grad_and_step(about, options):
    if about.get("loss") == "mse":
        about = {"sizes": (5, 7, 2), **about}
    net, params, X, y = problem(**about)
    got_params, got_vel, history = fitted(net, params, X, y, **options)
    batch = options.pop("batch_size", 16)
    want_params, want_vel, losses = by_hand(net, params, X, y, batch=batch, **options)
    assert got_params.tobytes() == want_params.tobytes()
    assert got_vel.tobytes() == want_vel.tobytes()
    assert (got_params != params).any() or options.get("lr") == 0
    # Sums of at most 300 losses in another order, in float64.
    np.testing.assert_allclose(history["loss"], losses, rtol=300 * np.finfo(float).eps)


def test_it_is_that_loop_for_any_number_of_outputs():
    net, params, X, y = problem(**TANH)
    got, _, _ = fitted(net, params, X, y, batch_size=11)
    assert got.tobytes() == by_hand(net, params, X, y, batch=11)[0].tobytes()


@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    rows=st.integers(1, 40),
    batch=st.integers(1, 45),
    l2=st.sampled_from([0.0, 0.01]),
    momentum=st.sampled_from([0.0, 0.5, 0.99]),
    optimizer=st.sampled_from(["nag", "momentum", "gd"]),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_network_and_batch(sizes, rows, batch, l2, momentum, optimizer, seed):
    net, params, X, y = problem(tuple(sizes), rows, l2=l2)
    options = {"momentum": momentum, "optimizer": optimizer, "seed": seed, "epochs": 2, "lr": 0.01}
    got_params, got_vel, _ = fitted(net, params, X, y, batch_size=batch, **options)
    want_params, want_vel, _ = by_hand(net, params, X, y, batch=batch, **options)
    assert got_params.tobytes() == want_params.tobytes()
    assert got_vel.tobytes() == want_vel.tobytes()


def test_a_given_velocity_is_used_and_kept():
    net, params, X, y = problem()
    vel = np.random.default_rng(1).normal(size=net.size).astype(np.float32)
    got = fitted(net, params, X, y, vel=vel)
    want = by_hand(net, params, X, y, vel=vel)
    assert got[0].tobytes() == want[0].tobytes()
    assert got[1].tobytes() == want[1].tobytes()


@pytest.mark.parametrize("clip", [None, 1e30])
def test_subnormal_velocities_become_zero(clip):
    """The first column of X is 0, and so is the gradient of the first row of weights."""
    net, params, X, y = problem()
    X[:, 0] = 0
    smallest = np.finfo(np.float32).smallest_normal
    vel = np.full(net.size, 8 * smallest, np.float32)
    got = fitted(net, params, X, y, epochs=1, batch_size=50, momentum=0.25, vel=vel, clip=clip)
    assert (got[1][:7] == 2 * smallest).all()
    got = fitted(net, params, X, y, epochs=2, batch_size=50, momentum=0.25, vel=vel, clip=clip)
    assert not got[1][:7].any()  # 0.5 of the smallest normal number would be subnormal
    assert got[1].tobytes() == by_hand(net, params, X, y, 2, 50, momentum=0.25, vel=vel)[1].tobytes()


@pytest.mark.parametrize("optimizer", ["nag", "momentum", "gd"])
@pytest.mark.parametrize("about", [{}, {"l2": 0.1, "sizes": (5, 7, 6, 3)}, {"sizes": (33, 70, 10)}], ids=str)
def test_a_clip_that_is_never_reached_changes_no_bit(about, optimizer):
    """The kernels that clip write the gradient first; the others update the weights tile by tile."""
    net, params, X, y = problem(**about)
    options = {"optimizer": optimizer} if optimizer != "momentum" or not about else {"momentum": 0.0}
    assert_same(fitted(net, params, X, y, clip=1e30, **options), fitted(net, params, X, y, **options))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999, 1.001])
def test_clip(share):
    """Without momentum the first update has the gradient's direction and at most the length lr clip."""
    net, params, X, y = problem(l2=0.1)
    _, grads = net.value_and_grad(params, X, y)
    norm = np.linalg.norm(grads.astype(float))
    clip = share * norm
    got, vel, _ = fitted(net, params, X, y, 1, 50, momentum=0.0, lr=1.0, clip=clip, shuffle=False)
    expected = grads.astype(float) * min(1, share)
    # The factor and each product are rounded; the difference of the parameters is rounded to their unit.
    np.testing.assert_allclose(vel, expected, rtol=2 * EPS32)
    assert np.linalg.norm(vel.astype(float)) <= clip * (1 + 2 * EPS32)
    np.testing.assert_allclose(params - got.astype(float), expected, rtol=2 * EPS32, atol=EPS32 * abs(params).max())


def test_clip_is_of_the_whole_gradient_of_the_accumulated_batches():
    net, params, X, y = problem()
    grads = net.value_and_grad(params, X, y)[1].astype(float)
    norm = np.linalg.norm(grads)
    _, vel, _ = fitted(net, params, X, y, 1, 10, momentum=0.0, clip=0.5 * norm, accumulate=5)
    # Sums of 50 terms in another order: each element errs by at most 50 units of the sum of their sizes.
    sizes = sum(abs(net.value_and_grad(params, X[[i]], y[[i]])[1].astype(float)) for i in range(50)) / 50
    assert (abs(vel - 0.5 * grads) <= 55 * EPS32 * sizes).all()


@pytest.mark.parametrize(("accumulate", "batch", "rows"), [(2, 25, 50), (4, 13, 50), (3, 1, 3), (10**20, 5, 50)])
def test_accumulated_batches_are_one_batch(accumulate, batch, rows):
    """One update: the same deltas, summed in another order."""
    net, params, X, y = problem(rows=rows, l2=0.1)
    got = fitted(net, params, X, y, 1, batch, lr=1.0, momentum=0.0, accumulate=accumulate)
    want = fitted(net, params, X, y, 1, rows, lr=1.0, momentum=0.0)
    each = [net.value_and_grad(params, X[[i]], y[[i]])[1].astype(float) for i in range(rows)]
    sizes = sum(map(abs, each)) / rows
    assert (abs(got[1].astype(float) - want[1]) <= (rows + 5) * EPS32 * sizes).all()
    assert got[2].last("loss") == pytest.approx(want[2].last("loss"), rel=1e-13)


def test_accumulated_batches_of_128_rows_are_one_batch_to_the_last_bit():
    """Sums go in blocks of 128 terms anyway; and rates count updates, not batches."""
    net, params, X, y = problem((5, 7, 3), 1000)
    for accumulate in (2, 3, 10**9):
        for rates in ({}, {"lr": lambda t: 0.1 / (t + 1), "momentum": lambda t: 1 - 1 / (t + 2)}):
            got = fitted(net, params, X, y, 2, 128, accumulate=accumulate, **rates)
            want = fitted(net, params, X, y, 2, min(128 * accumulate, 1000), **rates)
            for name in ("lr", "momentum"):
                assert got[2][name].tolist() == want[2][name].tolist()
            assert got[0].tobytes() == want[0].tobytes()
            assert got[1].tobytes() == want[1].tobytes()


@pytest.mark.parametrize("optimizer", ["nag", "momentum", "gd"])
def test_torch(optimizer):
    """The same training by PyTorch, in float64."""
    torch = pytest.importorskip("torch")
    net, params, X, y = problem((5, 7, 3), **TANH, l2=0.01)
    first, second = torch.nn.Linear(5, 7, dtype=torch.float64), torch.nn.Linear(7, 3, dtype=torch.float64)
    views = net.unflatten(params)
    with torch.no_grad():
        for layer, number in ((first, 1), (second, 2)):
            layer.weight.copy_(torch.from_numpy(views[f"W{number}"].T.copy()))
            layer.bias.copy_(torch.from_numpy(views[f"b{number}"].copy()))
    momentum = 0.0 if optimizer == "gd" else 0.9
    groups = [
        {"params": [first.weight, second.weight], "weight_decay": 0.01},
        {"params": [first.bias, second.bias], "weight_decay": 0.0},
    ]
    sgd = torch.optim.SGD(groups, lr=0.05, momentum=momentum, nesterov=optimizer == "nag")
    for epoch in range(3):
        order = permutation(range(50), 4, epoch)
        for start in range(0, 50, 16):
            rows = order[start : start + 16]
            sgd.zero_grad()
            z = second(torch.tanh(first(torch.from_numpy(X[rows]))))
            torch.nn.functional.mse_loss(z, torch.from_numpy(y[rows])).backward()
            sgd.step()
    got = net.unflatten(fitted(net, params, X, y, seed=4, optimizer=optimizer)[0])
    # 12 updates, each with gradients that err by some 16 + 7 roundings of numbers of order 1, and a velocity that
    # keeps 10 of them: 12 * 10 * 0.05 * 50 eps = 7e-14, and tenfold for what the updates between make of it.
    for layer, number in ((first, 1), (second, 2)):
        np.testing.assert_allclose(got[f"W{number}"], layer.weight.detach().numpy().T, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got[f"b{number}"], layer.bias.detach().numpy(), rtol=0, atol=1e-12)


# --- nothing else has an influence -------------------------------------------------------------------------------


def only(form, monkeypatch):
    """Let every training take this form of the kernels."""
    monkeypatch.setattr(trainer, "PARALLEL_FLOP", 0 if form == "parallel" else math.inf)
    monkeypatch.setattr(trainer, "Pace", lambda forms, guess: autotune.Pace((form,), guess))


@pytest.mark.parametrize(
    ("about", "options"),
    [
        ({"sizes": (33, 70, 10), "rows": 110}, {"batch_size": 50}),
        ({"sizes": (3, 40, 9, 17, 4), "rows": 40, "l2": 0.1}, {"batch_size": 17}),
        ({"sizes": (33, 3), "rows": 5}, {"batch_size": 2}),
        ({"sizes": (33, 70, 10), "rows": 110}, {"batch_size": 20, "clip": 0.1, "accumulate": 3}),
    ],
    ids=str,
)
def test_threads_have_no_influence(monkeypatch, about, options):
    if not parallel_allowed():
        pytest.skip("there is one thread only, or no threading layer that is safe")
    net, params, X, y = problem(**about)
    options = {**options, "validation": 0.3}
    only("serial", monkeypatch)
    expected = fitted(net, params, X, y, **options)
    only("parallel", monkeypatch)
    for shares in (1, 2, 3, 5, 64):
        monkeypatch.setattr(numba, "get_num_threads", lambda shares=shares: shares)
        assert_same(fitted(net, params, X, y, **options), expected)
    monkeypatch.undo()
    assert_same(fitted(net, params, X, y, **options), expected)


@pytest.mark.parametrize("options", [{}, {"accumulate": 3, "clip": 0.5}], ids=str)
def test_how_the_steps_are_divided_into_calls_has_no_influence(monkeypatch, options):
    net, params, X, y = problem()
    results, calls = [], []
    for seconds in (0.0, 1e-5, 1e9):  # a step at a time; some; all at once
        monkeypatch.setattr(autotune, "CALL_SECONDS", seconds)
        took = autotune.Pace.took
        counts = []
        monkeypatch.setattr(autotune.Pace, "took", lambda *a, took=took, counts=counts: counts.append(a[2]) or took(*a))
        results.append(fitted(net, params, X, y, batch_size=5, **options))
        monkeypatch.undo()
        calls.append(counts)
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])
    assert calls[0] == [1] * 30
    assert calls[2] == [10] * 3


def test_what_is_recorded_has_no_influence(capsys):
    net, params, X, y = problem()
    plain = fitted(net, params, X, y)
    assert_same(fitted(net, params, X, y, metrics=["accuracy"]), plain)
    assert_same(fitted(net, params, X, y, progress=True), plain)
    assert_same(fitted(net, params, X, y, callback=lambda history: False), plain)
    assert_same(fitted(net, params, X, y, validation=(X[:9], y[:9])), plain)
    assert_same(fitted(net, params, X, y, patience=100, time_budget=1e6, target_loss=0.0, min_gain=1), plain)
    alone = params.copy()
    history = net.fit(alone, X, y, 3, 16)  # without vel
    assert_same((alone, plain[1], history), plain)
    assert "epoch 3/3" in capsys.readouterr().out


def test_in_threads_at_once():
    net, params, X, y = problem((33, 70, 10), 200)
    expected = fitted(net, params, X, y)
    results = []
    workers = [threading.Thread(target=lambda: results.append(fitted(net, params, X, y))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    for result in results:
        assert_same(result, expected)


def test_arguments_are_left_alone():
    net, params, X, y = problem()
    weights = np.linspace(0, 1, 50)
    before = [x.copy() for x in (X, y, weights)]
    fitted(net, params, X, y, sample_weight=weights, validation=0.2, metrics="accuracy")
    for x, old in zip((X, y, weights), before, strict=True):
        assert x.tobytes() == old.tobytes()


def test_numpy_integers():
    net, params, X, y = problem()
    expected = fitted(net, params, X, y, 3, 7, accumulate=2, patience=50, seed=5)
    for T in (np.int8, np.uint8, np.int64, np.uint64):
        assert_same(fitted(net, params, X, y, T(3), T(7), accumulate=T(2), patience=T(50), seed=T(5)), expected)


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
    order = np.empty(len(rows), np.int64)
    trainer.shuffled(order, np.asarray(rows, np.int64), seed, epoch)
    return order


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


# --- data --------------------------------------------------------------------------------------------------------


def test_data_of_other_kinds(tmp_path):
    net, params, X, y = problem()
    X = np.round(4 * X)
    expected = fitted(net, params, X, y)
    np.save(tmp_path / "X.npy", X)
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.zeros((100, 10), np.float32)
    wide[::2, ::2] = X
    for other in (
        *(X.astype(np.float64), X.astype(np.int32), X.astype(np.int8), X.astype(np.float16), X.astype(">f4")),
        *(np.asfortranarray(X), read_only, wide[::2, ::2], X.tolist(), np.load(tmp_path / "X.npy", mmap_mode="r")),
    ):
        assert_same(fitted(net, params, other, y), expected)
    labels = y.copy()
    labels.flags.writeable = False
    np.save(tmp_path / "y.npy", y)
    for other in (
        *(y.astype(np.uint8), y.astype(np.uint64), y.astype(">i4"), y.tolist(), labels, np.repeat(y, 2)[::2]),
        np.load(tmp_path / "y.npy", mmap_mode="r"),
    ):
        assert_same(fitted(net, params, X, other), expected)


def test_wide_numbers_are_rounded_as_by_astype():
    net, params, X, y = problem()
    X = X.astype(np.float64) / 3
    assert_same(fitted(net, params, X, y), fitted(net, params, X.astype(np.float32), y))


def test_pictures():
    net, params, _, y = problem()
    X = np.random.default_rng(0).integers(0, 256, (50, 5)).astype(np.uint8)
    expected = fitted(net, params, X.astype(np.float32) * np.float32(1 / 255), y)
    assert_same(fitted(net, params, X, y), expected)
    assert_same(fitted(net, params, np.asfortranarray(X), y), expected)


def test_tensors():
    torch = pytest.importorskip("torch")
    net, params, X, y = problem()
    expected = fitted(net, params, X, y)
    tensors = torch.from_numpy(params.copy()), torch.zeros(net.size)
    history = net.fit(tensors[0], torch.from_numpy(X), torch.from_numpy(y), 3, 16, vel=tensors[1])
    assert_same((tensors[0].numpy(), tensors[1].numpy(), history), expected)
    assert [x._version for x in tensors] == [1, 1]


def test_a_memory_map_is_not_copied(tmp_path):
    rows = 65_000
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (rows, 784))  # 204 MB, not on the disk
    X[::1000, 0] = 1
    del X
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert X.nbytes > 200e6
    net = MLP((784, 2, 2))
    params, y = net.init(0), np.zeros(rows, int)
    net.fit(params.copy(), X[:10], y[:10], 1)  # compiles
    tracemalloc.start()
    net.fit(params, X, y, 1, 512, validation=0.1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


# --- learning ----------------------------------------------------------------------------------------------------


def test_digits():
    digits = load_digits()
    X = (digits.X / 16).astype(np.float32)
    net = MLP((64, 64, 10))
    history = net.fit(net.init(0), X, digits.y, 10, 32, validation=0.2, metrics=["accuracy"])
    assert history.last("validation_accuracy") > 0.95
    assert history["accuracy"][-1] > history["accuracy"][0]


def test_regression_of_two_outputs():
    X = np.random.default_rng(0).uniform(-2, 2, (400, 1))
    y = np.hstack([np.sin(2 * X), np.abs(X)])
    net = MLP((1, 24, 2), **TANH)
    history = net.fit(net.init(0), X, y, 150, 32, lr=Cosine(0.2, 150), validation=0.25, metrics=["mse", "mae"])
    assert history.last("validation_mse") < 0.02 * y.var()
    assert history.last("validation_mae") < math.sqrt(history.last("validation_mse"))


def test_classes_that_no_line_separates():
    X = np.random.default_rng(0).uniform(-1, 1, (400, 2)).astype(np.float32)
    y = X[:, 0] * X[:, 1] > 0
    net = MLP((2, 24, 1), **BINARY)
    history = net.fit(net.init(1), X, y, 60, 16, lr=0.2, validation=0.25, metrics=["accuracy"])
    assert history.last("validation_accuracy") > 0.95


def test_fista_bound():
    """Least squares with all rows in a batch and FISTA's momentum: f(x_k) - f* <= 2 L |x_0 - x*|^2 / (k+1)^2."""
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 6)) * np.geomspace(1, 0.01, 6)
    y = X @ random.normal(size=(6, 2))
    net = MLP((6, 2), **TANH)
    A = np.hstack([X, np.ones((40, 1))])
    lipschitz = np.linalg.eigvalsh(A.T @ A / 40).max()  # of the mean over 40 rows and 2 outputs of (z - y)^2
    solution = np.linalg.lstsq(A, y)[0].reshape(-1)
    params, vel = np.zeros(net.size), np.zeros(net.size)
    for k in (1, 2, 5, 20, 100):
        params[:], vel[:] = 0, 0
        net.fit(params, X, y, k, 40, 1 / lipschitz, Fista(), vel=vel)
        after = Fista().values(np.array([k]), None)[0]
        iterate = params + after / lipschitz * vel
        assert net.loss(iterate, X, y) <= 2 * lipschitz * (solution**2).sum() / (k + 1) ** 2 + 1e-15


# --- what is recorded --------------------------------------------------------------------------------------------


def test_a_share_of_the_rows_is_held_back():
    net, params, X, y = problem(rows=53, l2=0.1, dropout=0.4)
    got, _, history = fitted(net, params, X, y, validation=0.3, seed=6)
    parts = split(net.spec, samples(net.spec, X, y), 0.3, 6)
    assert len(parts.validation_rows) == round(0.3 * 53)
    assert sorted([*parts.rows, *parts.validation_rows]) == list(range(53))
    assert list(parts.rows) != list(split(net.spec, samples(net.spec, X, y), 0.3, 7).rows)
    want = by_hand(net, params, X[parts.rows], y[parts.rows], seed=6)
    assert got.tobytes() == want[0].tobytes()
    plain = MLP((5, 7, 3))
    expected = plain.loss(got, X[parts.validation_rows], y[parts.validation_rows])
    assert history.last("validation_loss") == pytest.approx(expected, rel=1e-14)


def outputs_reference(net, params, X, y):
    """Loss, accuracy, mae and mse, from the outputs, in plain NumPy."""
    z = net.forward(params, X).astype(float)
    if net.loss_name == "cross_entropy":
        losses = np.log(np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1)) + z.max(axis=1) - z[np.arange(len(y)), y]
        return losses, z.argmax(axis=1) == y, None, None
    error = z - y
    if net.loss_name == "mse":
        return (error**2).mean(axis=1), z.argmax(axis=1) == y.argmax(axis=1), abs(error), error**2
    losses = (np.logaddexp(0, z) - y * z).mean(axis=1)
    return losses, (z > 0) == (y > 0.5), abs(error), error**2


@pytest.mark.parametrize("about", [{}, {**TANH, "sizes": (5, 7, 2)}, {**BINARY, "sizes": (5, 7, 2)}], ids=str)
def test_validation_and_metrics(about):
    """More rows than the kernel takes at once; losses in the network's dtype, sums in float64."""
    net, params, X, y = problem(**about)
    _, _, X_other, y_other = problem(**about, rows=150, seed=1)
    names = ["accuracy"] if net.loss_name == "cross_entropy" else ["accuracy", "mae", "mse"]
    got, _, history = fitted(net, params, X, y, validation=(X_other, y_other), metrics=names)
    losses, right, absolute, square = outputs_reference(net, got, X_other, y_other)
    eps = float(np.finfo(net.dtype).eps)  # losses and outputs of order 1, with some roundings each
    assert history.last("validation_loss") == pytest.approx(losses.mean(), rel=20 * eps)
    assert history.last("validation_accuracy") == pytest.approx(right.mean(), rel=1e-14)
    if absolute is not None:
        assert history.last("validation_mae") == pytest.approx(absolute.mean(), rel=1e-13)
        assert history.last("validation_mse") == pytest.approx(square.mean(), rel=1e-13)
    # The first epoch in one batch: measured before its update.
    _, _, first = fitted(net, params, X, y, 1, 50, metrics=names)
    losses, right, absolute, square = outputs_reference(net, params, X, y)
    assert first.last("loss") == pytest.approx(losses.mean(), rel=20 * eps)
    assert first.last("accuracy") == pytest.approx(right.mean(), rel=1e-14)
    if absolute is not None:
        assert first.last("mae") == pytest.approx(absolute.mean(), rel=1e-13)
        assert first.last("mse") == pytest.approx(square.mean(), rel=1e-13)
    assert sorted(first.to_dict()) == sorted(["loss", "lr", "momentum", *names])


def test_metrics_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    net, params, X, y = problem()
    weights = np.random.default_rng(0).uniform(0, 1, 50)
    got, _, history = fitted(net, params, X, y, validation=(X, y, weights), metrics="accuracy")
    shares = net.predict_proba(got, X).astype(float)
    shares /= shares.sum(axis=1, keepdims=True)
    expected = metrics.log_loss(y, shares, sample_weight=weights, labels=range(3))
    assert history.last("validation_loss") == pytest.approx(expected, rel=50 * EPS32)
    assert history.last("validation_accuracy") == metrics.accuracy_score(y, net.predict(got, X))


def test_the_loss_has_the_penalty_and_the_weights():
    net, params, X, y = problem(l2=0.5)
    weights = np.random.default_rng(0).uniform(0, 1, 50).astype(np.float32)
    _, _, history = fitted(net, params, X, y, 1, 10, lr=0.0, sample_weight=weights)
    losses = outputs_reference(net, params, X, y)[0]
    views = net.unflatten(params.astype(float).astype(np.float32))
    penalty = 0.25 * sum((views[name].astype(float) ** 2).sum() for name in ("W1", "W2"))
    expected = (losses * weights).sum() / weights.sum(dtype=float) + penalty
    assert history.last("loss") == pytest.approx(expected, rel=20 * EPS32)


def test_rates_are_those_of_the_last_update():
    net, params, X, y = problem()
    _, _, history = fitted(net, params, X, y, lr=lambda t: 0.001 * t, momentum=lambda t: 0.01 * t)
    np.testing.assert_allclose(history["lr"], [0.003, 0.007, 0.011])
    np.testing.assert_allclose(history["momentum"], [0.03, 0.07, 0.11])
    assert not fitted(net, params, X, y, optimizer="gd")[2]["momentum"].any()
    assert history.epochs == 3
    assert history.stopped is None
    assert history.seconds > 0


def test_a_function_is_asked_once_an_update():
    net, params, X, y = problem()
    asked = []
    fitted(net, params, X, y, lr=lambda t: asked.append(t) or 0.1)
    assert asked == list(range(12))


# --- when it stops -----------------------------------------------------------------------------------------------


@functools.cache
def noisy():
    """A long training with a rate so high that the validation loss goes up and down."""
    net, params, X, y = problem((5, 16, 3), 120)
    options = {"batch_size": 8, "lr": 0.1, "validation": (X[:40], y[:40][::-1].copy())}
    return (net, params, X, y), options, fitted(net, params, X, y, 30, **options)


@pytest.mark.parametrize(("patience", "min_gain"), [(1, 0.0), (3, 0.0), (2, 0.01), (5, 0.05), (4, 10.0)])
def test_patience(patience, min_gain):
    problem_, options, (_, _, full) = noisy()
    stop = None
    for epoch in range(1, 31):
        losses = full["validation_loss"][:epoch].tolist()
        gains = [k for k in range(epoch) if losses[k] < min(losses[:k], default=math.inf) - min_gain]
        if epoch - 1 - gains[-1] >= patience:
            stop = epoch
            break
    got = fitted(*problem_, 30, patience=patience, min_gain=min_gain, **options)
    assert got[2].epochs == (stop or 30)
    assert got[2].stopped == ("patience" if stop else None)
    assert_same(got, fitted(*problem_, got[2].epochs, **options))


@given(
    losses=st.lists(st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, 0.9]), min_size=1, max_size=12),
    patience=st.integers(1, 4),
    min_gain=st.sampled_from([0.0, 0.06, 0.25]),
    pieces=st.integers(1, 3),
)
def test_patience_counts_epochs_without_gain(losses, patience, min_gain, pieces):
    """For any losses, asked after every epoch or after some."""
    limits, history = Limits(patience, min_gain, None, None), History()
    for epoch, loss in enumerate(losses, 1):
        history.append({"loss": loss})
        if epoch % pieces == 0:
            gained = [k for k in range(epoch) if losses[k] < min(losses[:k], default=math.inf) - min_gain]
            expected = "patience" if epoch - 1 - gained[-1] >= patience else None
            assert limits.reached(history, False, False) == expected


def test_patience_without_validation_watches_the_training_loss():
    net, params, X, y = problem()
    history = fitted(net, params, X, y, 20, patience=4, lr=0.0, shuffle=False)[2]
    assert (history.epochs, history.stopped) == (5, "patience")


def test_target_loss():
    problem_, options, (_, _, full) = noisy()
    del options
    net, params, X, y = problem_
    full = fitted(net, params, X, y, 10)[2]
    target = full["loss"][4]
    history = fitted(net, params, X, y, 10, target_loss=target)[2]
    assert (history.epochs, history.stopped) == (int(np.argmax(full["loss"] <= target)) + 1, "target_loss")


def test_time_budget():
    net, params, X, y = problem()
    history = fitted(net, params, X, y, 10, time_budget=1e-9)[2]
    assert (history.epochs, history.stopped) == (1, "time_budget")


def test_the_end_of_the_rate():
    net, params, X, y = problem()
    history = fitted(net, params, X, y, 50, lr=Adaptive(1e-7, patience=2, tolerance=1.0))[2]
    assert (history.epochs, history.stopped) == (4, "lr")


@pytest.mark.parametrize("validated", [True, False])
def test_keep_best(validated):
    problem_, options, _ = noisy()
    options = {**options, "validation": options["validation"] if validated else None}
    got, vel, history = fitted(*problem_, 30, keep="best", **options)
    losses = history["validation_loss" if validated else "loss"]
    best = int(losses.argmin()) + 1
    assert best < 30 or not validated
    assert got.tobytes() == fitted(*problem_, best, **options)[0].tobytes()
    assert vel.tobytes() == fitted(*problem_, 30, **options)[1].tobytes()


def test_a_callback_stops_it():
    net, params, X, y = problem()
    seen = []

    def callback(history):
        seen.append((history.epochs, len(history["loss"]), history.last("loss")))
        return history.epochs == 2

    got = fitted(net, params, X, y, 10, callback=callback)
    assert (got[2].epochs, got[2].stopped) == (2, "callback")
    assert [entry[:2] for entry in seen] == [(1, 1), (2, 2)]
    assert_same(got, fitted(net, params, X, y, 2))


def test_an_exception_of_a_callback():
    net, params, X, y = problem()
    history = History()

    def callback(history):
        if history.epochs == 2:
            raise ZeroDivisionError

    got, vel = params.copy(), np.zeros_like(params)
    with pytest.raises(ZeroDivisionError):
        net.fit(got, X, y, 10, 16, vel=vel, callback=callback, history=history)
    assert_same((got, vel, history), fitted(net, params, X, y, 2))


@pytest.mark.parametrize(
    ("about", "options"),
    [
        ({}, {}),
        ({}, {"optimizer": "gd"}),
        ({}, {"shuffle": False, "validation": 0.3, "metrics": ["accuracy"]}),
        ({}, {"lr": Cosine(0.1, 7, warmup=1), "momentum": Fista(), "accumulate": 3, "clip": 0.3}),
        ({}, {"sample_weight": np.linspace(0, 1, 50)}),
        ({"dropout": 0.4}, {"lr": Adaptive(0.1, patience=1, tolerance=0.2), "seed": 9}),
    ],
    ids=lambda options: ",".join(options) or "plain",
)
def test_a_training_continues_to_the_same_bits(about, options):
    net, params, X, y = problem(**about)
    whole = fitted(net, params, X, y, 7, **options)
    params, vel, history = fitted(net, params, X, y, 2, **options)
    history = History.from_dict(history.to_dict())
    for epochs in (3, 3, 7):
        before = history.seconds
        assert net.fit(params, X, y, epochs, 16, vel=vel, history=history, **options) is history
        assert history.seconds >= before
    assert_same((params, vel, history), whole)
    assert history.epochs == 7


def test_a_continued_training_counts_the_epochs_before():
    problem_, options, _ = noisy()
    net, _, X, y = problem_
    whole = fitted(*problem_, 30, patience=3, **options)
    params, vel, history = fitted(*problem_, whole[2].epochs - 1, **options)
    net.fit(params, X, y, 30, vel=vel, history=history, patience=3, **options)
    assert_same((params, vel, history), whole)
    assert history.stopped == "patience"


@pytest.mark.parametrize("keep", ["last", "best"])
def test_divergence(keep):
    net, params, X, y = problem()
    start = params.copy()
    with pytest.warns(RuntimeWarning, match=r"diverged in epoch \d+: .*a smaller lr or clip= helps") as told:
        history = net.fit(params, X, y, 50, 16, lr=1e30, keep=keep)
    assert told[0].filename == __file__
    assert history.stopped == "diverged"
    assert history.epochs < 50
    assert not math.isfinite(history.last("loss"))
    assert np.isfinite(history["loss"][:-1]).all()
    if keep == "best" and history.epochs > 1:
        assert np.isfinite(params).all()
        assert (params != start).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert net.fit(start, X, y, 50, 16, lr=1e30, clip=1e-30).stopped is None


INTERRUPTED = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
from nagd_numba import MLP
random = np.random.default_rng(0)
X, y = random.normal(size=(60_000, 64)).astype(np.float32), random.integers(0, 10, 60_000)
net = MLP((64, 128, 10))
params, vel = net.init(0), np.zeros(net.size, np.float32)
net.fit(params.copy(), X[:64], y[:64], 1, 16, validation=(X[:9], y[:9]))  # compiles
before, sent = params.copy(), []
def interrupt():
    sent.append(time.perf_counter())
    signal.raise_signal(signal.SIGINT)
threading.Timer(0.5, interrupt).start()
try:
    net.fit(params, X, y, 10_000, 16, lr=0.01, vel=vel, validation=(X, y))
except KeyboardInterrupt:
    waited = time.perf_counter() - sent[0]
assert (params != before).any() and (vel != 0).any()
assert np.isfinite(params).all() and np.isfinite(vel).all()
params_now = params.copy()
time.sleep(0.2)
assert (params == params_now).all()
print(waited)
"""


def test_interrupt():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 0.5 + 0.5 * (os.cpu_count() < 4)  # calls of about 0.1 s; others use the machine too


# --- what is refused ---------------------------------------------------------------------------------------------


class WrongLength(Schedule):
    def values(self, t, progress):
        return np.zeros(3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: {"epochs": 0}, ValueError, "epochs is 0; a whole number from 1"),
        (lambda a: {"epochs": 2.0}, TypeError, "epochs is 2.0; a whole number"),
        (lambda a: {"epochs": True}, TypeError, "epochs is True"),
        (lambda a: {"batch_size": 0}, ValueError, "batch_size is 0"),
        (lambda a: {"batch_size": -3}, ValueError, "batch_size is -3"),
        (lambda a: {"batch_size": "32"}, TypeError, "batch_size is '32'"),
        (lambda a: {"accumulate": 0}, ValueError, "accumulate is 0"),
        (lambda a: {"accumulate": 1.5}, TypeError, "accumulate is 1.5"),
        (lambda a: {"lr": -0.1}, ValueError, "lr is -0.1; a finite number >= 0"),
        (lambda a: {"lr": math.nan}, ValueError, "lr is nan"),
        (lambda a: {"lr": math.inf}, ValueError, "lr is inf"),
        (lambda a: {"lr": "0.1"}, TypeError, "lr is '0.1'; a number"),
        (lambda a: {"lr": None}, TypeError, "lr is None"),
        (lambda a: {"lr": 1e39}, ValueError, r"lr is 1e\+39 at update 0; .*in float32"),
        (lambda a: {"lr": Cosine}, TypeError, r"lr is the class Cosine; an instance"),
        (lambda a: {"lr": lambda t: -1.0 if t == 3 else 0.1}, ValueError, "lr is -1.0 at update 3"),
        (lambda a: {"lr": Constant(-1)}, ValueError, "lr is -1.0 at update 0"),
        (lambda a: {"momentum": -0.5}, ValueError, "momentum is -0.5"),
        (lambda a: {"momentum": [0.9]}, TypeError, r"momentum is \[0.9\]"),
        (lambda a: {"momentum": lambda t: math.nan if t == 2 else 0.9}, ValueError, "momentum is nan at update 2"),
        (lambda a: {"momentum": lambda t: math.nan if t == 4 else 0.9}, ValueError, "momentum is nan at update 4"),
        (lambda a: {"optimizer": "nga"}, ValueError, "optimizer is 'nga'; one of 'gd', .*did you mean 'nag'"),
        (lambda a: {"optimizer": "sgd"}, ValueError, "did you mean 'gd'"),
        (lambda a: {"optimizer": None}, ValueError, "optimizer is None"),
        (lambda a: {"keep": "bset"}, ValueError, "keep is 'bset'.*did you mean 'best'"),
        (lambda a: {"vel": a["vel"][:-1]}, ValueError, r"vel has shape \(65,\)"),
        (lambda a: {"vel": a["vel"].astype(float)}, TypeError, "vel has dtype float64"),
        (lambda a: {"vel": a["params"]}, ValueError, "params and vel are the same memory"),
        (lambda a: {"vel": read_only(a["vel"])}, ValueError, "vel is read-only"),
        (lambda a: {"vel": np.repeat(a["vel"], 2)[::2]}, ValueError, "vel is strided"),
        (lambda a: {"params": read_only(a["params"])}, ValueError, "params is read-only"),
        (lambda a: {"params": a["params"][:-1]}, ValueError, r"params has shape \(65,\); .* has 66 parameters"),
        (lambda a: {"params": a["params"].astype(float)}, TypeError, "params has dtype float64 and the model float32"),
        (lambda a: {"params": a["params"].tolist()}, TypeError, "params is a list"),
        (lambda a: {"seed": -1}, ValueError, "seed is -1"),
        (lambda a: {"seed": 2**64}, ValueError, "seed is 18446744073709551616"),
        (lambda a: {"seed": 1.5}, TypeError, "seed is 1.5"),
        (lambda a: {"seed": None}, TypeError, "seed is None"),
        (lambda a: {"sample_weight": np.ones(49)}, ValueError, r"sample_weight has shape \(49,\) and X 50 rows"),
        (lambda a: {"sample_weight": np.ones((50, 1))}, ValueError, r"sample_weight has shape \(50, 1\)"),
        (lambda a: {"sample_weight": changed(np.ones(50), 7, -1)}, ValueError, "sample_weight has negative"),
        (lambda a: {"sample_weight": changed(np.ones(50), 7, math.nan)}, ValueError, "sample_weight has"),
        (lambda a: {"sample_weight": np.full(50, 1e39)}, ValueError, "sample_weight has .*infinite"),
        (lambda a: {"sample_weight": np.zeros(50)}, ValueError, "only zero weights"),
        (lambda a: {"sample_weight": ["a"] * 50}, TypeError, "sample_weight has dtype <U1"),
        (lambda a: {"validation": 0}, ValueError, "validation is 0 of 50 rows"),
        (lambda a: {"validation": 1.0}, ValueError, "validation is 1.0"),
        (lambda a: {"validation": 1.5}, ValueError, "validation is 1.5"),
        (lambda a: {"validation": 0.001}, ValueError, "leaves rows on both sides"),
        (lambda a: {"validation": math.nan}, ValueError, "validation is nan"),
        (lambda a: {"validation": True}, ValueError, "validation is True"),
        (lambda a: {"validation": "x"}, TypeError, "validation is 'x'; None, a share"),
        (lambda a: {"validation": (a["X"],)}, ValueError, "validation has 1 parts"),
        (lambda a: {"validation": (a["X"], a["y"][:-1])}, ValueError, r"y has shape \(49,\)"),
        (lambda a: {"validation": (a["X"][:, :3], a["y"])}, ValueError, r"X has shape \(50, 3\)"),
        (lambda a: {"metrics": "acuracy"}, ValueError, "metrics is 'acuracy'.*did you mean 'accuracy'"),
        (lambda a: {"metrics": ["accuracy", "mae"]}, ValueError, "metrics has 'mae', and the targets .* are labels"),
        (lambda a: {"patience": 0}, ValueError, "patience is 0"),
        (lambda a: {"patience": 2.5}, TypeError, "patience is 2.5"),
        (lambda a: {"min_gain": -1e-3}, ValueError, "min_gain is -0.001; a number >= 0"),
        (lambda a: {"min_gain": math.nan}, ValueError, "min_gain is nan"),
        (lambda a: {"target_loss": "low"}, TypeError, "target_loss is 'low'; a number"),
        (lambda a: {"target_loss": math.nan}, ValueError, "target_loss is nan"),
        (lambda a: {"time_budget": 0}, ValueError, "time_budget is 0.0; a number > 0"),
        (lambda a: {"clip": 0.0}, ValueError, "clip is 0.0; a number > 0"),
        (lambda a: {"clip": math.nan}, ValueError, "clip is nan"),
        (lambda a: {"clip": "1"}, TypeError, "clip is '1'; a number"),
        (lambda a: {"callback": 3}, TypeError, "callback is 3; a function"),
        (lambda a: {"X": a["X"][0]}, ValueError, r"X has shape \(5,\); .*X\[None, :\]"),
        (lambda a: {"X": a["X"][:, :4]}, ValueError, r"X has shape \(50, 4\); this network has 5 inputs"),
        (lambda a: {"X": a["X"][:0], "y": a["y"][:0]}, ValueError, "X has no rows"),
        (lambda a: {"X": a["X"].astype(complex)}, TypeError, "X has dtype complex128"),
        (lambda a: {"X": a["X"].astype(str)}, TypeError, "X has dtype <U"),
        (lambda a: {"X": np.ma.masked_array(a["X"])}, TypeError, "X is a masked array"),
        (lambda a: {"y": a["y"][:-1]}, ValueError, r"y has shape \(49,\) and X 50 rows"),
        (lambda a: {"y": a["y"].astype(float)}, TypeError, "y has dtype float64"),
        (lambda a: {"y": changed(a["y"], 4, 3)}, ValueError, r"y is 3 in row 4; labels must be in \[0, 3\)"),
        (lambda a: {"y": changed(a["y"], 9, -1)}, ValueError, "y is -1 in row 9"),
        (lambda a: {"history": History.from_dict({"loss": [1.0]}), "vel": None}, ValueError, "vel is missing"),
        pytest.param(
            lambda a: {"history": History.from_dict({"loss": [1.0]})},
            ValueError,
            "columns",
        ),
        pytest.param(
            lambda a: {"lr": WrongLength()},
            ValueError,
            "lr",
        ),
        pytest.param(
            lambda a: {"metrics": 5},
            TypeError,
            "metrics is 5",
        ),
        pytest.param(
            lambda a: {"history": "old"},
            TypeError,
            "history is 'old'",
        ),
        pytest.param(
            lambda a: {"validation": "0.2"},
            TypeError,
            "validation is '0.2'",
        ),
        pytest.param(
            lambda a: {"validation": (a["X"][:, :3], a["y"])},
            ValueError,
            "validation",
        ),
    ],
)
def test_unfit_arguments_are_refused_before_any_write(change, error, message):
    net, params, X, y = problem()
    arguments = {"params": params, "X": X, "y": y, "epochs": 2, "batch_size": 16, "vel": np.ones_like(params)}
    vel = arguments["vel"]
    before = params.copy()
    arguments.update(change(arguments))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=message):
            net.fit(**arguments)
    assert params.tobytes() == before.tobytes()
    assert (vel == 1).all()


def test_targets_of_other_losses_are_refused():
    net, params, X, y = problem((5, 7, 2), **BINARY)
    with pytest.raises(ValueError, match=r"y is 0\.5 in row 3; binary_cross_entropy needs targets of 0 or 1"):
        net.fit(params, X, changed(y, (3, 1), 0.5))
    net, params, X, y = problem((5, 7, 2), **TANH)
    with pytest.raises(ValueError, match=r"y has shape \(50,\)"):
        net.fit(params, X, y[:, 0])
    labels = (y[:, 0] > 0).astype(int)
    assert_same(fitted(net, params, X, labels), fitted(net, params, X, np.eye(2)[labels]))  # one-hot


def test_a_rate_that_becomes_unfit_later():
    """Functions are asked at the start of each epoch: the epochs before are kept."""
    net, params, X, y = problem()
    history, vel = History(), np.zeros_like(params)
    got = params.copy()
    with pytest.raises(ValueError, match="lr is nan at update 9"):
        net.fit(got, X, y, 5, 16, vel=vel, history=history, lr=lambda t: math.nan if t == 9 else 0.05)
    assert_same((got, vel, history), fitted(net, params, X, y, 2))
