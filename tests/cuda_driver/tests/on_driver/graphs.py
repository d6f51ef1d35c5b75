"""Capture: what it forbids, and what a graph replays."""

import numpy as np
import pytest

from .calls import NON_BLOCKING, api, enter, fails, memory, ok, peek, pinned

GLOBAL, THREAD_LOCAL, RELAXED = (
    api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL,
    api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
    api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED,
)


@pytest.fixture(autouse=True)
def context(machine):
    return enter()


@pytest.fixture
def s(context):
    return ok(api.cuStreamCreate(NON_BLOCKING))


def begin(stream, mode=GLOBAL):
    ok(api.cuStreamBeginCapture(stream, mode))


def executable(stream):
    graph = ok(api.cuStreamEndCapture(stream))
    made = ok(api.cuGraphInstantiate(graph, 0))
    ok(api.cuGraphDestroy(graph))
    return made


def abandon(stream):
    assert api.cuStreamEndCapture(stream)[0].name == "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"


def test_nothing_runs_while_it_is_recorded_and_everything_at_each_replay(s, seed):
    p, q = memory(np.zeros(4, np.int32)), memory(np.zeros(4, np.int32))
    begin(s)
    ok(api.cuMemsetD32Async(p, 5, 4, s))
    ok(api.cuMemcpyDtoDAsync(q, p, 16, s))
    graph = executable(s)
    ok(api.cuCtxSynchronize())
    assert (peek(p, 4, np.int32) == 0).all()
    for _ in range(2):
        ok(api.cuMemsetD32Async(q, 0, 4, s))
        ok(api.cuGraphLaunch(graph, s))
        ok(api.cuStreamSynchronize(s))
        assert (peek(q, 4, np.int32) == 5).all()


def test_branches_that_join(s, seed):
    arrays = [memory(np.zeros(4, np.int32)) for _ in range(3)]
    other, fork, join = ok(api.cuStreamCreate(NON_BLOCKING)), ok(api.cuEventCreate(0)), ok(api.cuEventCreate(0))
    begin(s)
    ok(api.cuMemsetD32Async(arrays[0], 1, 4, s))
    ok(api.cuEventRecord(fork, s))
    ok(api.cuStreamWaitEvent(other, fork, 0))
    ok(api.cuMemcpyDtoDAsync(arrays[1], arrays[0], 16, other))
    ok(api.cuMemcpyDtoDAsync(arrays[2], arrays[0], 16, s))
    ok(api.cuEventRecord(join, other))
    ok(api.cuStreamWaitEvent(s, join, 0))
    graph = executable(s)
    ok(api.cuGraphLaunch(graph, s))
    ok(api.cuStreamSynchronize(s))
    assert all((peek(x, 4, np.int32) == 1).all() for x in arrays)


def test_branches_that_nothing_orders_race(machine, s):
    p = memory(np.zeros(4, np.int32))
    other, fork, join = ok(api.cuStreamCreate(NON_BLOCKING)), ok(api.cuEventCreate(0)), ok(api.cuEventCreate(0))
    begin(s)
    ok(api.cuEventRecord(fork, s))
    ok(api.cuStreamWaitEvent(other, fork, 0))
    ok(api.cuMemsetD32Async(p, 1, 4, other))
    ok(api.cuMemsetD32Async(p, 2, 4, s))
    ok(api.cuEventRecord(join, other))
    ok(api.cuStreamWaitEvent(s, join, 0))
    ok(api.cuGraphLaunch(executable(s), s))
    machine.settle()
    assert "captured at on_driver/graphs.py" in machine.faults.pop()


def test_launches_of_one_graph_come_one_after_the_other(s):
    p, other = memory(np.zeros(4, np.int32)), ok(api.cuStreamCreate(NON_BLOCKING))
    begin(s)
    ok(api.cuMemsetD32Async(p, 1, 4, s))
    graph = executable(s)
    ok(api.cuGraphLaunch(graph, s))
    ok(api.cuGraphLaunch(graph, other))
    ok(api.cuCtxSynchronize())


def test_a_replay_reads_the_hosts_memory_as_it_is_then(s):
    p, pageable, fixed = memory(np.zeros(8, np.int32)), np.full(4, 1, np.int32), pinned(4, np.int32)
    begin(s)
    ok(api.cuMemcpyHtoDAsync(p, pageable.ctypes.data, 16, s))
    ok(api.cuMemcpyHtoDAsync(p + 16, fixed.ctypes.data, 16, s))
    graph = executable(s)
    pageable[:], fixed[:] = 3, 4
    ok(api.cuGraphLaunch(graph, s))
    ok(api.cuStreamSynchronize(s))
    assert peek(p, 8, np.int32).tolist() == [3] * 4 + [4] * 4


def test_a_replay_after_its_memory_was_freed_is_found(machine, s):
    p, q = memory(np.zeros(4, np.int32)), memory(np.zeros(4, np.int32))
    begin(s)
    ok(api.cuMemcpyDtoDAsync(q, p, 16, s))
    graph = executable(s)
    ok(api.cuMemFree(p))
    ok(api.cuGraphLaunch(graph, s))
    with fails("ILLEGAL_ADDRESS"):
        ok(api.cuStreamSynchronize(s))
    assert "freed at on_driver/graphs.py" in machine.faults.pop()


def test_memory_of_a_graph(machine, s):
    """Allocated and freed by each replay."""
    source, target = np.arange(4, dtype=np.int32), memory(np.zeros(4, np.int32))
    begin(s)
    p = int(ok(api.cuMemAllocAsync(16, s)))
    ok(api.cuMemcpyHtoDAsync(p, source.ctypes.data, 16, s))
    ok(api.cuMemcpyDtoDAsync(target, p, 16, s))
    ok(api.cuMemFreeAsync(p, s))
    graph = executable(s)
    for _ in range(3):
        ok(api.cuGraphLaunch(graph, s))
    ok(api.cuStreamSynchronize(s))
    assert (peek(target, 4, np.int32) == source).all()
    assert (peek(p, 4, np.int32) == -1).all()


FORBIDDEN = {
    "an allocation": lambda p, s: api.cuMemAlloc(16),
    "a free": lambda p, s: api.cuMemFree(p),
    "a synchronous copy": lambda p, s: api.cuMemcpyHtoD(p, np.zeros(4, np.int32).ctypes.data, 16),
    "a synchronisation of the context": lambda p, s: api.cuCtxSynchronize(),
    "a synchronisation of the stream": lambda p, s: api.cuStreamSynchronize(s),
    "a query of the stream": lambda p, s: api.cuStreamQuery(s),
    "pinned memory": lambda p, s: api.cuMemHostAlloc(16, 0),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_a_capture_forbids_spoils_it(s, what):
    p = memory(np.zeros(4, np.int32))
    begin(s)
    with fails("STREAM_CAPTURE_UNSUPPORTED"):
        ok(FORBIDDEN[what](p, s))
    with fails("STREAM_CAPTURE_INVALIDATED"):
        ok(api.cuMemsetD32Async(p, 5, 4, s))
    abandon(s)
    ok(api.cuMemsetD32Async(p, 5, 4, s))
    ok(api.cuStreamSynchronize(s))


def test_a_relaxed_capture_allows_calls_that_do_not_touch_its_stream(s):
    begin(s, RELAXED)
    p = memory_without_waiting()
    ok(api.cuMemFree(p))
    executable(s)


def memory_without_waiting():
    return ok(api.cuMemAlloc(16))


def test_the_legacy_stream_during_a_capture(s):
    """A blocking stream would be waited for; a non-blocking one is not."""
    p, blocking = memory(np.zeros(4, np.int32)), ok(api.cuStreamCreate(0))
    begin(blocking, RELAXED)
    with fails("STREAM_CAPTURE_IMPLICIT"):
        ok(api.cuMemsetD32Async(p, 5, 4, 0))
    abandon(blocking)
    begin(s, RELAXED)
    ok(api.cuMemsetD32Async(p, 5, 4, 0))
    executable(s)
    with fails("STREAM_CAPTURE_UNSUPPORTED"):
        begin(api.CUstream(0))


def test_events_of_a_capture(s):
    event, p = ok(api.cuEventCreate(0)), memory(np.zeros(4, np.int32))
    begin(s, RELAXED)
    ok(api.cuMemsetD32Async(p, 5, 4, s))
    ok(api.cuEventRecord(event, s))
    with fails("CAPTURED_EVENT"):
        ok(api.cuEventSynchronize(event))
    abandon(s)
    outside = ok(api.cuEventCreate(0))
    ok(api.cuEventRecord(outside, 0))
    begin(s, RELAXED)
    with fails("STREAM_CAPTURE_ISOLATION"):
        ok(api.cuStreamWaitEvent(s, outside, 0))
    abandon(s)


def test_streams_that_are_not_joined(s):
    other, fork, p = ok(api.cuStreamCreate(NON_BLOCKING)), ok(api.cuEventCreate(0)), memory(np.zeros(4, np.int32))
    begin(s)
    ok(api.cuMemsetD32Async(p, 5, 4, s))
    ok(api.cuEventRecord(fork, s))
    ok(api.cuStreamWaitEvent(other, fork, 0))
    ok(api.cuMemsetD32Async(p, 6, 4, other))
    with fails("STREAM_CAPTURE_UNJOINED"):
        ok(api.cuStreamEndCapture(s))


def test_the_status_of_a_capture(s):
    status = api.CUstreamCaptureStatus
    assert ok(api.cuStreamIsCapturing(s)) == status.CU_STREAM_CAPTURE_STATUS_NONE
    begin(s)
    assert ok(api.cuStreamIsCapturing(s)) == status.CU_STREAM_CAPTURE_STATUS_ACTIVE
    api.cuMemAlloc(16)
    assert ok(api.cuStreamIsCapturing(s)) == status.CU_STREAM_CAPTURE_STATUS_INVALIDATED
    abandon(s)
