"""`MLP.fit`: when it stops, and how it continues."""

import functools
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba import MLP, fit_many
from nagd_numba.history import History
from nagd_numba.mlp.stopping import Limits
from nagd_numba.schedules import Adaptive, Cosine, Fista, Linear, OneCycle, Plateau, Progress, WarmRestarts
from tests.helpers.backends import JIT_OFF
from tests.helpers.training import TANH, assert_same, fitted, problem

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled kernels")


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
        ({}, {"lr": OneCycle(0.3, 7), "momentum": OneCycle(0.85, 7, initial=0.95, final=0.95)}),
        ({}, {"lr": Linear(0.01, 0.1, 1).then(Plateau(0.1, patience=0, threshold=0.1), 1), "validation": 0.3}),
        ({}, {"lr": WarmRestarts(0.1, 1.5).clamp(0.01), "momentum": lambda t: 0.9 - t % 2 / 10}),
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


def test_a_plateau_follows_the_validation_loss():
    """And without validation data the training loss; the rate of each epoch is made of the losses before it."""
    net, params, X, y = problem()
    schedule = Plateau(0.4, factor=0.5, patience=0, threshold=0.05)
    for options in ({}, {"validation": 0.3}):
        history = fitted(net, params, X, y, 12, lr=schedule, **options)[2]
        watched = history["validation_loss" if options else "loss"].tolist()
        expected = [schedule.values(np.zeros(1), Progress(1, 1, watched[:k]))[0] for k in range(12)]
        assert history["lr"].tolist() == expected
        assert 1 < len(set(expected)) < 12


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


def test_each_warning_names_what_is_not_finite():
    net, params, X, y = problem((5, 7, 2), rows=20, **TANH)
    far = X.copy(), y.copy()
    far[1][0] = 1e200  # finite, and its square is not
    with pytest.warns(RuntimeWarning, match=r"in epoch 1: the validation loss is inf; are the validation data of an"):
        history = net.fit(params.copy(), X, y, 3, 20, validation=far)
    assert history.stopped == "diverged"
    with pytest.warns(RuntimeWarning, match=r"in epoch 1: params is -?(inf|nan) at index \d+; a smaller lr or clip="):
        history = net.fit(params.copy(), 1e5 * X, 1e150 * y, 1, 20, lr=1e300, optimizer="gd")
    assert history.stopped == "diverged"
    assert math.isfinite(history.last("loss"))
    linear = MLP([5, 2], loss="mse", dtype="float64")
    with pytest.warns(RuntimeWarning, match=r"in epoch 1: vel is inf at index \d+; a smaller lr or clip= helps"):
        # The square of the gradient is infinite, and so all steps from then on are 0.
        linear.fit(np.zeros(12), 1e10 * X, 1e150 * y, 1, 20, lr=1e-3, optimizer="adam")


def test_the_best_parameters_are_finite():
    """The loss of the second epoch is lower, and its update makes them infinite."""
    net, params, X, y = problem((5, 7, 2), rows=20, **TANH)
    with pytest.warns(RuntimeWarning, match="in epoch 2: params is"):
        history = net.fit(params, X, 1e3 * y, 2, 20, lr=lambda t: (1e-6, 1e308)[t], optimizer="gd", keep="best")
    assert history["loss"][1] < history["loss"][0]
    assert np.isfinite(params).all()


@pytest.mark.parametrize("returned", [True, np.True_, 1])
def test_a_callback_ends_the_training(returned):
    net, params, X, y = problem()
    assert net.fit(params, X, y, 5, 16, callback=lambda history: returned).epochs == 1
    for harmless in (None, False, np.False_, 0):
        assert net.fit(params, X, y, 2, 16, callback=lambda history, x=harmless: x).epochs == 2


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            np.ones(3),
            r"callback returned a numpy.ndarray of shape \(3,\); True, which ends the training, False or None",
        ),
        (np.zeros(0), "callback returned a numpy.ndarray"),
        (0.25, "callback returned a float"),
        ("stop", "callback returned a str"),
        ({}, "callback returned a dict"),
    ],
)
def test_what_a_callback_may_not_return(returned, message):
    net, params, X, y = problem()
    with pytest.raises(TypeError, match=message):
        net.fit(params, X, y, 5, 16, callback=lambda history: returned)
    with pytest.raises(TypeError, match=message):
        fit_many(net, params[None].copy(), X, y, 5, 16, callback=lambda histories: returned)


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
