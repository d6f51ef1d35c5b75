"""Steps that are bound to device arrays: on streams, in graphs, with memory that moves."""

import numpy as np
import pytest
from cuda.bindings import driver as api
from numba import cuda

from nagd_numba import adam_step, step
from nagd_numba.gpu import driver
from nagd_numba.optimizers.bound import bind

from .arrays import GLOBAL, arrays, graph_of, new_stream, on_device, replay, same
from .streams_and_lifetimes import SIZES, Wrapper, lists, same_lists


@pytest.mark.parametrize("stream", ["none", "Numba's", "raw"])
def test_on_streams(stream):
    host = arrays(300)
    device = on_device(host)
    given = {"none": lambda: None, "Numba's": cuda.stream, "raw": new_stream}[stream]()
    take = bind(step, *device, stream=given, lr=0.1)
    for k in range(3):
        assert take(lr=0.1 * k, weight_decay=0.0) is device[0]
        step(*host, lr=0.1 * k)
    same(device, host)


def test_a_changing_number_of_the_step():
    host = [*arrays(100), np.zeros(100, np.float32)]
    device = on_device(host)
    take = bind(adam_step, *device)
    for t in range(1, 4):
        take(t, 0.1 / t)
        adam_step(*host, t, 0.1 / t)
    same(device, host)


def test_lists_and_a_graph_of_them(seed):
    host, device = lists()
    stream = new_stream()
    take = bind(step, *device, stream=stream)
    take()
    step(*host)
    assert len(SIZES) == len(take._params)
    cuda.synchronize()
    assert api.cuStreamBeginCapture(stream, GLOBAL)[0] == 0
    take(0.1)
    take(0.2)
    status, graph = api.cuStreamEndCapture(stream)
    assert status == 0
    status, executable = api.cuGraphInstantiate(graph, 0)
    assert status == 0
    del take
    for _ in range(2):
        replay(executable, stream)
        step(*host, 0.1)
        step(*host, 0.2)
    same_lists(device, host)


def test_one_array_in_a_graph():
    host = arrays(100)
    device = on_device(host)
    bind(step, *device)()
    step(*host)
    graph, stream = graph_of(lambda s: bind(step, *device, stream=s)(0.2))
    for _ in range(2):
        replay(graph, stream)
        step(*host, 0.2)
    same(device, host)


def test_memory_that_moves():
    hosts = [arrays(16), arrays(32)]
    devices = [on_device(x) for x in hosts]
    wrapped = [Wrapper(x) for x in devices[0]]
    take = bind(step, *wrapped)
    for host, device in zip(hosts, devices, strict=True):
        for wrapper, x in zip(wrapped, device, strict=True):
            wrapper.inner = x
        for lr in (0.1, 0.2):
            take(lr)
            step(*host, lr)
        same(device, host)


def test_refusals_write_nothing():
    host = arrays(100)
    device = on_device(host)
    take = bind(step, *device)
    with pytest.raises(ValueError, match=r"bound step: lr is -1\.0; a finite number >= 0 is needed \(in float32\)"):
        take(-1)
    with pytest.raises(ValueError, match="bound step: lr is 1e\\+39"):
        take(1e39)
    with pytest.raises(ValueError, match="bind: params and vel overlap in device memory"):
        bind(step, device[0], device[1], device[0])
    with pytest.raises(TypeError, match="bind: stream is 'fast'"):
        bind(step, *device, stream="fast")
    with pytest.raises(ValueError, match="bind: params lives on a CUDA device"):
        bind(step, device[0], host[1], host[2])
    same(device, host)
    empty = on_device([x[:0] for x in host])
    assert bind(step, *empty)(0.1) is empty[0]
    with pytest.raises(ValueError, match="lr is -1"):
        bind(step, *empty)(-1)
    assert driver.current().download(empty[0]).size == 0
