"""Training and inference on the CUDA driver for tests, whose streams are asynchronous and whose races are faults."""

import numpy as np
import pytest
from numba import cuda

from nagd_numba import MLP, Average, fit_many
from tests.helpers.device_training import assert_equal_histories, problem

NET = MLP([5, 12, 3], dropout=0.2, l2=0.01)


def on_stream(x, stream):
    return cuda.to_device(np.ascontiguousarray(x), stream=stream)


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"validation": 0.3, "metrics": ["accuracy"], "keep": "best"},
        {"clip": 0.5, "optimizer": "adam", "lr": 0.01},
    ],
    ids=["ahead", "validated", "several launches"],
)
def test_fit(seed, keywords):
    X, y = problem(NET.sizes, 40)
    states = 2 if keywords.get("optimizer") == "adam" else 1
    host, velocity, stream = NET.init(0), np.zeros(states * NET.size, np.float32), cuda.stream()
    params, vel = on_stream(host, stream), on_stream(velocity, stream)
    keywords = {"epochs": 3, "batch_size": 8, **keywords}
    there = NET.fit(params, on_stream(X, stream), y, vel=vel, **keywords)
    here = NET.fit(host, X, y, vel=velocity, **keywords)
    np.testing.assert_array_equal(params.copy_to_host(), host)
    np.testing.assert_array_equal(vel.copy_to_host(), velocity)
    assert_equal_histories(there, here)


def test_fit_many(seed):
    X, y = problem(NET.sizes, 40)
    host, stream = np.stack([NET.init(m) for m in range(3)]), cuda.stream()
    params = on_stream(host, stream)
    keywords = {"epochs": 2, "batch_size": 8, "lr": [0.01, 0.1, 0.3], "validation": (X, y)}
    for there, here in zip(fit_many(NET, params, X, y, **keywords), fit_many(NET, host, X, y, **keywords), strict=True):
        assert_equal_histories(there, here)
    np.testing.assert_array_equal(params.copy_to_host(), host)


def test_results_on_the_stream_of_the_parameters(seed):
    X, y = problem(NET.sizes, 20)
    stream, params = cuda.stream(), NET.init(0)
    given = [on_stream(x, stream) for x in (params, X, y)]
    np.testing.assert_array_equal(NET.forward(*given[:2]).copy_to_host(), NET.forward(params, X))
    np.testing.assert_array_equal(NET.predict(*given[:2]).copy_to_host(), NET.predict(params, X))
    loss, grads = NET.value_and_grad(*given)
    expected_loss, expected = NET.value_and_grad(params, X, y)
    assert loss == expected_loss
    np.testing.assert_array_equal(grads.copy_to_host(), expected)


def test_an_array_of_another_stream(seed):
    X, y = problem(NET.sizes, 20)
    stream, other, params = cuda.stream(), cuda.stream(), NET.init(0)
    grads = on_stream(np.zeros(NET.size, np.float32), other)
    NET.value_and_grad(*(on_stream(x, stream) for x in (params, X, y)), out=grads)
    np.testing.assert_array_equal(grads.copy_to_host(), NET.value_and_grad(params, X, y)[1])


@pytest.mark.parametrize("call", ["cuMemHostAlloc", "cuEventSynchronize", "cuMemcpyDtoHAsync_v2", "cuEventCreate"])
def test_a_call_that_fails(machine, call):
    X, y = problem(NET.sizes, 20)
    params = cuda.to_device(NET.init(0))
    cuda.synchronize()
    machine.fail(call, "OUT_OF_MEMORY")
    with pytest.raises((RuntimeError, MemoryError), match="OUT_OF_MEMORY"):
        NET.fit(params, X, y, epochs=2)
    host = NET.init(0)
    params = cuda.to_device(host)
    NET.fit(params, X, y, epochs=2)
    NET.fit(host, X, y, epochs=2)
    np.testing.assert_array_equal(params.copy_to_host(), host)


@pytest.mark.parametrize("keywords", [{}, {"validation": 0.3, "keep": "best", "clip": 0.5}], ids=["ahead", "validated"])
def test_an_average(seed, keywords):
    X, y = problem(NET.sizes, 40)
    host, velocity, stream = NET.init(0), np.zeros(NET.size, np.float32), cuda.stream()
    params, vel = on_stream(host, stream), on_stream(velocity, stream)
    average, own = Average(params, 0.9), Average(host, 0.9)
    keywords = {"epochs": 3, "batch_size": 8, **keywords}
    there = NET.fit(params, X, y, vel=vel, average=average, **keywords)
    here = NET.fit(host, X, y, vel=velocity, average=own, **keywords)
    for x, expected in ((params, host), (vel, velocity), (average.value, own.value)):
        np.testing.assert_array_equal(x.copy_to_host(), expected)
    assert average.steps == own.steps
    assert_equal_histories(there, here)
