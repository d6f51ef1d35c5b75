"""Training without the compiler: every line of its templates runs as Python, on networks small enough for it."""

import numpy as np
import pytest
from numba import config

from nagd_numba import MLP, fit_many, step
from nagd_numba.mlp.dropout import splitmix

pytestmark = pytest.mark.skipif(not config.DISABLE_JIT, reason="runs with NUMBA_DISABLE_JIT=1")

NETWORKS = {
    "labels": MLP((3, 5, 2), dropout=0.25, l2=0.01),
    "numbers": MLP((3, 4, 2), activation="tanh", loss="mse", dtype="float64"),
    "chances": MLP((3, 2), loss="binary_cross_entropy", dtype="float64"),
}


def data(net, rows=11):
    random = np.random.default_rng(0)
    X = random.normal(size=(rows, 3)).astype(net.dtype)
    if net.loss_name == "cross_entropy":
        return X, random.integers(0, 2, rows)
    y = random.normal(size=(rows, 2))
    return X, y if net.loss_name == "mse" else (y > 0).astype(float)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("clip", [None, 1e30])
def test_it_is_a_loop_of_value_and_grad_and_step(kind, clip):
    net = NETWORKS[kind]
    X, y = data(net)
    params, vel = net.init(1), np.zeros(net.size, net.dtype)
    net.fit(params, X, y, epochs=2, batch_size=4, lr=0.1, vel=vel, shuffle=False, clip=clip, metrics=["accuracy"])
    expected, velocity = net.init(1), np.zeros(net.size, net.dtype)
    for number in range(6):
        rows = slice(number % 3 * 4, number % 3 * 4 + 4)
        seed = int(splitmix(np.uint64(0), np.uint64(number)))
        _, grads = net.value_and_grad(expected, X[rows], y[rows], dropout_seed=seed)
        step(expected, grads, velocity, lr=0.1, momentum=0.9)
    np.testing.assert_array_equal(params, expected)
    np.testing.assert_array_equal(vel, velocity)


def test_clip_accumulation_weights_and_validation():
    net = NETWORKS["numbers"]
    X, y = data(net)
    params = net.init(2)
    history = net.fit(
        params,
        *(X, y),
        **{"epochs": 2, "batch_size": 2, "accumulate": 2, "clip": 0.1, "lr": 0.1, "validation": 0.3},
        sample_weight=np.arange(11.0),
        metrics=["mae", "mse"],
    )
    assert np.isfinite(params).all()
    assert history.epochs == 2


def test_many():
    net = NETWORKS["labels"]
    X, y = data(net)
    params = np.stack([net.init(seed) for seed in range(3)])
    alone = params.copy()
    fit_many(net, params, X, y, epochs=1, batch_size=4, lr=[0.1, 0.2, 0.3], seed=[5, 6, 7])
    for m, row in enumerate(alone):
        net.fit(row, X, y, epochs=1, batch_size=4, lr=[0.1, 0.2, 0.3][m], seed=5 + m)
    np.testing.assert_array_equal(params, alone)
