"""Steps on device arrays: bits of the host's on every stream, in graphs, threads and on two devices."""

import threading

import numpy as np
import pytest
from cuda.bindings import driver as api
from numba import cuda

from nagd_numba import adam_step, step

from .arrays import arrays, graph_of, new_stream, on_device, replay, same


def upload(columns, stream=0):
    return [cuda.to_device(x, stream=stream) for x in columns]


def test_on_the_default_stream(seed):
    host = arrays(1003)
    device = upload(host)  # not waited for
    for _ in range(3):
        step(*device, lr=0.1, momentum=0.9)
        step(*host, lr=0.1, momentum=0.9)
    same(device, host)


STREAMS = {
    "numba": cuda.stream,
    "numba, per thread": cuda.per_thread_default_stream,
    "numba, legacy": cuda.legacy_default_stream,
    "raw": new_stream,
    "raw, blocking": lambda: new_stream(0),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_on_a_stream(kind):
    host = arrays(300)
    device, stream = on_device(host), STREAMS[kind]()
    for _ in range(2):
        step(*device, stream=stream)
        step(*host)
    same(device, host)


def test_on_a_stream_of_cuda_core(seed):
    from cuda.core import Device

    here = Device(0)
    here.set_current()
    host = arrays(300)
    device, stream = on_device(host), here.create_stream()
    for _ in range(2):
        step(*device, stream=stream)
        step(*host)
    stream.sync()
    same(device, host)


def test_uploads_on_the_stream_of_the_step(seed):
    host, stream = arrays(300), cuda.stream()
    device = upload(host, stream)
    step(*device, stream=stream)
    got = [x.copy_to_host(stream=stream) for x in device]
    stream.synchronize()
    step(*host)
    for x, y in zip(got, host, strict=True):
        np.testing.assert_array_equal(x, y)


def test_lists_on_a_stream(seed):
    sizes = (10, 700, 1)
    host = [[arrays(n)[k] for n in sizes] for k in range(3)]
    device = [on_device(column) for column in host]
    stream = new_stream()
    for _ in range(2):
        step(*device, stream=stream)
        step(*host)
    for columns, expected in zip(device, host, strict=True):
        same(columns, expected)


def test_many_different_lists_one_after_the_other(seed):
    """What each needs on the device is there until it has run."""
    stream, groups = new_stream(), []
    for n in range(3):
        host = [[arrays(20 + n)[k], arrays(30 + n)[k]] for k in range(3)]
        groups.append((host, [on_device(column) for column in host]))
    for host, device in groups:
        step(*device, stream=stream)
        step(*host)
    for host, device in groups:
        for columns, expected in zip(device, host, strict=True):
            same(columns, expected)


def test_two_streams_that_nothing_orders(machine):
    """That is an error of the caller's, and found."""
    device = on_device(arrays(100))
    step(*device, stream=new_stream())
    step(*device, stream=new_stream())
    machine.settle()
    assert any("race" in fault for fault in machine.faults)
    machine.faults.clear()


def test_two_streams_on_different_arrays(seed):
    hosts = [arrays(100), arrays(101)]
    devices = [on_device(host) for host in hosts]
    for device in devices:
        step(*device, stream=new_stream())
    for host, device in zip(hosts, devices, strict=True):
        step(*host)
        same(device, host)


def test_a_captured_step_is_replayed(seed):
    host = arrays(300)
    device = on_device(host)
    step(*device)  # what is compiled and loaded cannot be while a graph is captured
    step(*host)
    graph, stream = graph_of(lambda s: [step(*device, stream=s) for _ in range(2)])
    for _ in range(2):
        replay(graph, stream)
    for _ in range(4):
        step(*host)
    same(device, host)


def test_a_graph_of_cuda_core(seed):
    from cuda.core import Device

    here = Device(0)
    here.set_current()
    host = arrays(300)
    device = on_device(host)
    step(*device)
    step(*host)
    cuda.synchronize()
    stream = here.create_stream()
    builder = stream.create_graph_builder()
    builder.begin_building()
    step(*device, stream=builder)
    graph = builder.end_building().complete()
    for _ in range(2):
        graph.launch(stream)
        step(*host)
    stream.sync()
    same(device, host)


def test_a_thread_of_its_own_with_no_context():
    host, failed = arrays(300), []
    device = on_device(host)

    def other():
        try:
            step(*device)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert failed == []
    step(*host)
    same(device, host)


def test_on_the_second_device():
    """From a thread that uses the first, and goes on with it."""
    cuda.select_device(0)
    host = arrays(300)
    first = upload(host)
    with cuda.gpus[1]:
        device = on_device(host)
    step(*device)
    assert int(api.cuCtxGetDevice()[1]) == 0
    step(*host)
    with cuda.gpus[1]:
        same(device, host)
    with pytest.raises(ValueError, match="the arrays are on different devices"):
        step(first[0], *device[1:])


def test_a_step_with_another_number_of_states(seed):
    host = arrays(100, 4)
    device = on_device(host)
    for t in (1, 2):
        adam_step(*device, t)
        adam_step(*host, t)
    same(device, host)
