"""Training and prediction on device arrays: bits of the host's, whatever the order in which queued work runs."""

import numpy as np
import pytest
from numba import cuda

from nagd_numba import MLP, fit_many

from .arrays import new_stream


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, 4)).astype(np.float32), rng.integers(0, 3, 20)


KEYWORDS = {"epochs": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def small(data):
    """A network that one block trains, what it is on the host, and how the host got there."""
    net = MLP([4, 8, 3])
    params = net.init(0)
    return net, params, net.fit(params, *data, **KEYWORDS)


def test_fit_and_prediction(small, data, seed):
    net, expected, history = small
    params = cuda.to_device(net.init(0))
    there = net.fit(params, *data, **KEYWORDS)
    np.testing.assert_array_equal(params.copy_to_host(), expected)
    np.testing.assert_array_equal(there.values("loss"), history.values("loss"))
    X = cuda.to_device(data[0])
    np.testing.assert_array_equal(net.predict(params, X).copy_to_host(), net.predict(expected, data[0]))


def test_fit_on_the_second_device(small, data):
    net, expected, _ = small
    cuda.select_device(0)
    with cuda.gpus[1]:
        params = cuda.to_device(net.init(0))
        cuda.synchronize()
    net.fit(params, *data, **KEYWORDS)
    assert cuda.current_context().device.id == 0
    with cuda.gpus[1]:
        np.testing.assert_array_equal(params.copy_to_host(), expected)


def test_fit_many(data, seed):
    net = MLP([4, 8, 3])
    host = np.stack([net.init(k) for k in range(3)])
    device = cuda.to_device(host)
    fit_many(net, device, *data, seed=range(3), **KEYWORDS)
    fit_many(net, host, *data, seed=range(3), **KEYWORDS)
    np.testing.assert_array_equal(device.copy_to_host(), host)


def test_parameters_that_another_stream_still_writes(machine, small, data):
    """Who gives `fit` parameters whose stream it does not know has a race, which is found."""
    from cuda.bindings import driver as api

    net, *_ = small
    params, start = cuda.to_device(net.init(0)), net.init(1)
    cuda.synchronize()
    pointer = params.__cuda_array_interface__["data"][0]
    assert api.cuMemcpyHtoDAsync(pointer, start.ctypes.data, start.nbytes, new_stream())[0] == 0
    net.fit(params, *data, **KEYWORDS)
    machine.settle()
    assert any("race" in fault for fault in machine.faults)
    machine.faults.clear()
