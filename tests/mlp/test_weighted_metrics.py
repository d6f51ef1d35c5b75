"""`sample_weight` weights the metrics as it does the loss: of training and validation, on both targets."""

import numpy as np
import pytest

from nagd_numba import fit_many
from tests.helpers import driverless
from tests.helpers.backends import JIT_OFF
from tests.helpers.training import BINARY, TANH, problem

LOSSES = {
    "cross_entropy": ({}, ["accuracy"]),
    "mse": (TANH, ["accuracy", "mae", "mse"]),
    "binary": (BINARY, ["accuracy"]),
}
losses = pytest.mark.parametrize("loss", LOSSES)


def expected(net, params, X, y, weights):
    """The weighted means of each row's metrics."""
    z = net.forward(params, X).astype(float)
    if net.loss_name == "cross_entropy":
        return {"accuracy": np.average(z.argmax(axis=1) == y, weights=weights)}
    error = z - y
    if net.loss_name == "mse":
        right = z.argmax(axis=1) == y.argmax(axis=1)
    else:
        right = ((z > 0) == (y > 0.5)).mean(axis=1)
    rows = {"accuracy": right, "mae": abs(error).mean(axis=1), "mse": (error**2).mean(axis=1)}
    return {name: np.average(values, weights=weights) for name, values in rows.items()}


def standing(loss, rows=150, sizes=(5, 7, 3)):
    """A problem with weights, and the options of a training that leaves the network as it is."""
    options, metrics = LOSSES[loss]
    net, params, X, y = problem(sizes, rows, **options)
    weights = np.random.default_rng(1).uniform(0, 3, rows).astype(net.dtype)
    weights[::4] = 0
    return net, params, X, y, weights, {"epochs": 1, "batch_size": 16, "lr": 0.0, "metrics": metrics}


@losses
def test_metrics_are_weighted_means(loss):
    net, params, X, y, weights, options = standing(loss)
    history = net.fit(params, X, y, sample_weight=weights, validation=(X[:70], y[:70], weights[:70]), **options)
    want, validated = expected(net, params, X, y, weights), expected(net, params, X[:70], y[:70], weights[:70])
    plain = expected(net, params, X, y, None)
    for name in options["metrics"]:
        np.testing.assert_allclose(history.last(name), want[name], rtol=1e-5)
        np.testing.assert_allclose(history.last(f"validation_{name}"), validated[name], rtol=1e-5)
        assert abs(want[name] - plain[name]) > 1e-3  # it is a difference


@losses
def test_a_weight_counts_rows(loss):
    """Weights 0, 1, 2 are rows that are left out, once and twice there."""
    net, params, X, y, _, options = standing(loss)
    weights = np.arange(len(X)) % 3
    repeated = np.repeat(np.arange(len(X)), weights)
    got = net.fit(params, X, y, sample_weight=weights, **options)
    want = net.fit(params, X[repeated], y[repeated], **options)
    for name in ("loss", *options["metrics"]):
        np.testing.assert_allclose(got.last(name), want.last(name), rtol=1e-5)


@losses
def test_weights_of_one_change_no_bit(loss):
    net, params, X, y, _, options = standing(loss)
    got = net.fit(params, X, y, sample_weight=np.ones(len(X)), validation=0.2, **options)
    want = net.fit(params, X, y, validation=0.2, **options)
    for name, values in want.to_dict().items():
        np.testing.assert_array_equal(got[name], values, name)


@losses
def test_many_networks(loss):
    net, params, X, y, weights, options = standing(loss)
    (many,) = fit_many(net, params[None].copy(), X, y, sample_weight=weights, validation=(X, y, weights), **options)
    one = net.fit(params, X, y, sample_weight=weights, validation=(X, y, weights), **options)
    for name, values in one.to_dict().items():
        np.testing.assert_array_equal(many[name], values, name)


@pytest.mark.skipif(JIT_OFF, reason="nothing is compiled with the JIT off")
@pytest.mark.parametrize(
    "limit", [pytest.param(227 << 10, id="persistent", marks=pytest.mark.slow), pytest.param(0, id="multi_launch")]
)
@pytest.mark.parametrize(
    "loss", [pytest.param(x, marks=() if x == "cross_entropy" else pytest.mark.slow) for x in LOSSES]
)
def test_a_device_has_the_same_bits(loss, limit):
    from tests.helpers import fake_driver

    driverless.require()
    net, params, X, y, weights, options = standing(loss, rows=40)
    options |= {"epochs": 2, "lr": 0.1, "sample_weight": weights, "validation": 0.3}
    with fake_driver.installed(shared_limit=limit) as gpu:
        there = net.fit(gpu.array(params), gpu.array(X), gpu.array(y), **options)
        here = net.fit(params, X, y, **options)
    for name, values in here.to_dict().items():
        np.testing.assert_array_equal(there[name], values, name)
