"""Everything that a call does on a device, it does on the stream of the parameters; its results name that stream."""

import numpy as np
import pytest

from nagd_numba import MLP
from tests.helpers import driverless, fake_driver

STREAM, OTHER = 71, 72


@pytest.fixture(autouse=True)
def compiler():
    driverless.require()


def problem(net):
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, net.sizes[0])).astype(np.float32), rng.integers(0, net.sizes[-1], 20)


@pytest.mark.parametrize("method", ["forward", "predict", "predict_proba", "value_and_grad"])
def test_results_belong_to_the_stream_that_makes_them(method):
    net = MLP([5, 8, 3])
    X, y = problem(net)
    with fake_driver.installed() as gpu:
        params = gpu.array(net.init(0), stream=STREAM)
        given = (gpu.array(X, stream=STREAM), *((gpu.array(y, stream=STREAM),) if method == "value_and_grad" else ()))
        made = getattr(net, method)(params, *given)
        made = made[1] if method == "value_and_grad" else made
        assert made.__cuda_array_interface__["stream"] == STREAM
        assert {launch[2] for launch in gpu.launches} == {STREAM}
        assert gpu.ordered == []


def test_arrays_of_other_streams_are_waited_for_and_wait():
    net = MLP([5, 8, 3])
    X, y = problem(net)
    with fake_driver.installed() as gpu:
        grads = gpu.array(np.zeros(net.size, np.float32), stream=OTHER)
        params, X, y = (gpu.array(x, stream=STREAM) for x in (net.init(0), X, y))
        net.value_and_grad(params, X, y, out=grads)
        assert gpu.ordered == [(OTHER, STREAM), (STREAM, OTHER)]
        del gpu.ordered[:]
        net.fit(params, X, y, epochs=1, vel=gpu.array(np.zeros(net.size, np.float32), stream=OTHER))
        assert gpu.ordered == [(OTHER, STREAM)], "`fit` returns when all is done"


def test_training_copies_in_the_order_of_its_stream():
    net = MLP([5, 8, 3], l2=0.1)
    X, y = problem(net)
    with fake_driver.installed() as gpu:
        net.fit(gpu.array(net.init(0), stream=STREAM), X, y, epochs=2, batch_size=8, validation=0.2, keep="best")
        assert {launch[2] for launch in gpu.launches} == {STREAM}
        assert {stream for _, stream in gpu.copies} == {STREAM}
        assert {call for call, _ in gpu.copies} == {"upload", "put", "fetch", "copy", "download"}
