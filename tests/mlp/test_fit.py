"""`MLP.fit`: a loop of `value_and_grad` and `step` to the last bit, whatever it runs on."""

import math
import threading

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba.kernels import autotune
from nagd_numba.kernels.threading_layer import parallel_allowed
from nagd_numba.mlp.cpu import trainer
from tests.helpers.backends import JIT_OFF
from tests.helpers.training import BINARY, EPS32, TANH, assert_same, by_hand, fitted, permutation, problem

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled kernels")


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
    monkeypatch.setattr(trainer, "Autotuner", lambda forms, guess: autotune.Autotuner((form,), guess))


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
        took = autotune.Autotuner.took
        counts = []
        monkeypatch.setattr(
            autotune.Autotuner, "took", lambda *a, took=took, counts=counts: counts.append(a[2]) or took(*a)
        )
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
