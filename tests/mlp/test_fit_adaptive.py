"""Training with Adam, AdamW and Nadam: `MLP.fit`."""

import numpy as np
import pytest

import nagd_numba
from nagd_numba import MLP, fit_many
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.mlp.dropout import splitmix
from tests.helpers.backends import JIT_OFF
from tests.helpers.device_arrays import OnDevice

METHODS = {name: getattr(nagd_numba, f"{name}_step") for name in ("adam", "adamw", "nadam")}
NET = MLP((5, 7, 3), dropout=0.25, l2=0.01)


def data(rows=50):
    random = np.random.default_rng(0)
    return random.normal(size=(rows, 5)).astype(np.float32), random.integers(0, 3, rows)


@pytest.mark.parametrize("name", ["adam", "nadam"])
def test_it_is_a_loop_of_value_and_grad_and_the_step(name):
    X, y = data(11 if JIT_OFF else 50)
    batches = -(-len(X) // 8)
    params, states = NET.init(1), np.zeros(2 * NET.size, np.float32)
    NET.fit(params, X, y, epochs=2, batch_size=8, lr=0.01, vel=states, shuffle=False, optimizer=name)
    p = NET.init(1)
    m, v = np.zeros((2, NET.size), np.float32)
    for number in range(2 * batches):
        rows = slice(number % batches * 8, number % batches * 8 + 8)
        seed = int(splitmix(np.uint64(0), np.uint64(number)))
        _, g = NET.value_and_grad(p, X[rows], y[rows], dropout_seed=seed)
        METHODS[name](p, g, m, v, number + 1, lr=0.01)
    np.testing.assert_array_equal(params, p)
    np.testing.assert_array_equal(states, np.concatenate([m, v]))


def test_goes_on_to_the_same_bits():
    X, y = data(11 if JIT_OFF else 50)
    whole, parted = NET.init(1), NET.init(1)
    states = np.zeros((2, 2 * NET.size), np.float32)
    options = {"batch_size": 8, "lr": 0.01, "optimizer": "adam", "momentum": 0.8}
    NET.fit(whole, X, y, epochs=3, vel=states[0], **options)
    history = NET.fit(parted, X, y, epochs=1, vel=states[1], **options)
    NET.fit(parted, X, y, epochs=3, vel=states[1], history=history, **options)
    np.testing.assert_array_equal(whole, parted)
    np.testing.assert_array_equal(*states)


@pytest.mark.skipif(SIMULATOR, reason="the simulator has its own arrays")
def test_refused_before_any_write():
    X, y = data(11)
    params = NET.init(1)
    before = params.copy()
    for call, error, message in [
        (lambda: NET.fit(params, X, y, optimizer="Adam"), ValueError, "optimizer is 'Adam'; .* did you mean 'adam'"),
        (lambda: NET.fit(params, X, y, optimizer="adam", vel=before), ValueError, "vel has shape .*the 2 states of"),
        (
            lambda: NET.fit(params, X, y, optimizer="adam", vel=np.zeros(2 * NET.size)),
            ValueError,
            "vel has shape .* float64; the 2 states of .* of float32",
        ),
        (lambda: NET.fit(params, X, y, optimizer="adam", momentum=1.0), ValueError, "momentum is 1.0; with adam it is"),
        (lambda: NET.fit(OnDevice(NET.size), X, y, optimizer="adam"), ValueError, "trains in host memory only"),
        (lambda: fit_many(NET, params[None], X, y, optimizer="adam"), ValueError, "optimizer is 'adam'; one of"),
    ]:
        with pytest.raises(error, match=message):
            call()
    np.testing.assert_array_equal(params, before)
