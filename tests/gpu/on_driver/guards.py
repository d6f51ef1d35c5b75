"""A guard, and hyper-parameters in device memory, in a captured graph: what is written there between replays counts."""

import numpy as np
import pytest
from cuda.bindings import driver as api
from numba import cuda

from nagd_numba import Guard, nadam_step, step

NON_BLOCKING = 1
GLOBAL = api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL


def arrays(n, count, seed=0):
    rng = np.random.default_rng(seed)
    return [abs(rng.normal(size=n)).astype(np.float32) for _ in range(count)]


def device_of(x):
    return cuda.to_device(np.atleast_1d(x))


def graph_of(body):
    """What a function does with a stream, as a graph, and the stream."""
    status, stream = api.cuStreamCreate(NON_BLOCKING)
    assert status == 0
    (status,) = api.cuStreamBeginCapture(stream, GLOBAL)
    assert status == 0
    body(int(stream))
    status, graph = api.cuStreamEndCapture(stream)
    assert status == 0
    status, executable = api.cuGraphInstantiate(graph, 0)
    assert status == 0
    return executable, stream


def replay(graph, stream):
    assert api.cuGraphLaunch(graph, stream)[0] == 0
    cuda.synchronize()


def same(device, host):
    cuda.synchronize()
    for x, y in zip(device, host, strict=True):
        np.testing.assert_array_equal(x.copy_to_host(), y)


def test_a_graph_follows_a_schedule_and_counts_its_steps(seed):
    host = arrays(300, 4)
    device, lr, t = [cuda.to_device(x) for x in host], device_of(np.float32(0.1)), device_of(np.int64(1))
    cuda.synchronize()
    nadam_step(*device, t=t, lr=lr)
    nadam_step(*host, t=1, lr=float(np.float32(0.1)))
    cuda.synchronize()
    graph, stream = graph_of(lambda s: nadam_step(*device, t=t, lr=lr, stream=s))
    for k in range(2, 5):
        rate = np.float32(0.1 / k)
        lr.copy_to_device(np.array([rate]))
        cuda.synchronize()
        replay(graph, stream)
        nadam_step(*host, t=k, lr=float(rate))
        same(device, host)
    assert t.copy_to_host() == [5]


@pytest.mark.parametrize("lists", [False, True], ids=["one", "lists"])
def test_a_guard_decides_in_each_replay(seed, lists):
    host = arrays(5000, 3)
    device = [cuda.to_device(x) for x in host]
    columns = [[x] for x in device] if lists else device
    scale = device_of(np.float32(2))
    here, there = Guard(clip_norm=3.0, nonfinite="skip", grad_scale=2.0), Guard(3.0, None, "skip", scale)
    cuda.synchronize()
    step(*columns, lr=0.1, guard=there)
    step(*host, lr=0.1, guard=here)
    cuda.synchronize()
    graph, stream = graph_of(lambda s: step(*columns, lr=0.1, guard=there, stream=s))
    for factor, bad in ((2.0, False), (8.0, True), (8.0, False)):
        here.grad_scale = factor
        scale.copy_to_device(np.array([factor], np.float32))
        grads = arrays(5000, 1, seed=int(factor))[0]
        grads[100] = np.nan if bad else 1.0
        host[1][...] = grads
        device[1].copy_to_device(grads)
        cuda.synchronize()
        replay(graph, stream)
        step(*host, lr=0.1, guard=here)
        same(device, host)
        assert (here.norm, here.skipped) == (there.norm, there.skipped) or (bad and there.skipped)
        assert here.nonfinite_count == there.nonfinite_count == int(bad)
    assert here.skipped_steps == there.skipped_steps == 1


def test_what_no_graph_can_do_is_refused():
    device = [cuda.to_device(x) for x in arrays(100, 3)]
    cuda.synchronize()
    step(*device, guard=Guard(nonfinite="raise"))

    def body(stream):
        for guard, message in ((Guard(nonfinite="raise"), 'nonfinite="raise" reads'), (Guard(), "step once before")):
            with pytest.raises(ValueError, match=message):
                step(*device, guard=guard, stream=stream)

    before = [x.copy_to_host() for x in device]
    graph_of(body)
    same(device, before)


def test_each_step_waits_for_the_uploads_before_it(seed):
    """Nothing is synchronized by the caller: tables, control and numbers are there when the kernels run."""
    host = arrays(3000, 3)
    stream = cuda.stream()
    device = [cuda.to_device(x, stream=stream) for x in host]
    here, there = Guard(clip_norm=1.0), Guard(clip_norm=1.0)
    for _ in range(3):
        step(*([x] for x in device), lr=0.1, guard=there)
        step(*([x] for x in host), lr=0.1, guard=here)
    same(device, host)
    assert (here.norm, here.dot) == (there.norm, there.dot)
