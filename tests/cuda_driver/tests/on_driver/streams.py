"""In which order what is queued may run, and when."""

import ctypes
import threading

import numpy as np
import pytest

from .calls import NON_BLOCKING, api, enter, fails, memory, ok, peek, pinned, read


@pytest.fixture(autouse=True)
def context(machine):
    return enter()


def fill(pointer, value, stream=0):
    ok(api.cuMemsetD32Async(pointer, value, 4, stream))


def stream(flags=0):
    return ok(api.cuStreamCreate(flags))


def test_nothing_runs_before_somebody_waits_for_it():
    p, s = memory(np.zeros(4, np.int32)), stream()
    fill(p, 7, s)
    assert (peek(p, 4, np.int32) == 0).all()
    ok(api.cuStreamSynchronize(s))
    assert (peek(p, 4, np.int32) == 7).all()


def test_a_synchronisation_runs_what_it_has_to_and_no_more():
    p, q = memory(np.zeros(4, np.int32)), memory(np.zeros(4, np.int32))
    one, other = stream(NON_BLOCKING), stream(NON_BLOCKING)
    fill(p, 1, one)
    fill(q, 2, other)
    ok(api.cuStreamSynchronize(other))
    assert (peek(p, 4, np.int32) == 0).all()
    assert (peek(q, 4, np.int32) == 2).all()


def test_a_stream_keeps_its_order(seed):
    p, s = memory(np.zeros(4, np.int32)), stream()
    for value in range(20):
        fill(p, value, s)
    ok(api.cuStreamSynchronize(s))
    assert (peek(p, 4, np.int32) == 19).all()


def test_the_legacy_stream_waits_for_blocking_streams_and_they_for_it(seed):
    p, s, t = memory(np.zeros(4, np.int32)), stream(), stream()
    fill(p, 1, s)
    fill(p, 2)
    fill(p, 3, t)
    assert (read(p, 4, np.int32) == 3).all()


def test_the_per_thread_stream_is_ordered_with_the_legacy_stream_only(machine):
    p, s = memory(np.zeros(4, np.int32)), stream()
    fill(p, 1, api.CUstream(api.CU_STREAM_PER_THREAD))
    fill(p, 2)
    fill(p, 3, api.CUstream(api.CU_STREAM_PER_THREAD))
    assert (read(p, 4, np.int32) == 3).all()
    fill(p, 4, s)
    fill(p, 5, api.CUstream(api.CU_STREAM_PER_THREAD))
    machine.settle()
    assert "the first writes and the second writes 16 bytes" in machine.faults.pop()


def test_a_non_blocking_stream_is_not_ordered_with_the_legacy_stream(machine):
    p, s = memory(np.zeros(4, np.int32)), stream(NON_BLOCKING)
    fill(p, 1, s)
    fill(p, 2)
    machine.settle()
    (fault,) = machine.faults
    assert fault.startswith("race: nothing orders [fill of 16 bytes on ")
    assert fault.count("on_driver/streams.py:") >= 3  # both operations, and the allocation
    machine.faults.clear()


def test_events_order_streams(machine, seed):
    p, one, other = memory(np.zeros(4, np.int32)), stream(NON_BLOCKING), stream(NON_BLOCKING)
    event = ok(api.cuEventCreate(0))
    fill(p, 1, one)
    ok(api.cuEventRecord(event, one))
    ok(api.cuStreamWaitEvent(other, event, 0))
    fill(p, 2, other)
    ok(api.cuStreamSynchronize(other))
    assert (peek(p, 4, np.int32) == 2).all()


def test_waiting_for_an_event_orders_what_was_before_its_record_only(machine):
    p, one, other = memory(np.zeros(4, np.int32)), stream(NON_BLOCKING), stream(NON_BLOCKING)
    event = ok(api.cuEventCreate(0))
    ok(api.cuEventRecord(event, one))
    fill(p, 1, one)
    ok(api.cuStreamWaitEvent(other, event, 0))
    fill(p, 2, other)
    machine.settle()
    assert "race" in machine.faults.pop()


def test_what_the_host_has_waited_for_is_before_all_that_follows(machine, seed):
    p, one, other = memory(np.zeros(4, np.int32)), stream(NON_BLOCKING), stream(NON_BLOCKING)
    event = ok(api.cuEventCreate(0))
    for value, s in ((1, one), (2, other), (3, one)):
        fill(p, value, s)
        ok(api.cuEventRecord(event, s))
        ok(api.cuEventSynchronize(event))
    assert (peek(p, 4, np.int32) == 3).all()


def test_reads_do_not_conflict(machine):
    source = memory(np.ones(4, np.int32))
    targets = [memory(np.zeros(4, np.int32)) for _ in range(2)]
    for target in targets:
        ok(api.cuMemcpyDtoDAsync(target, source, 16, stream(NON_BLOCKING)))
    for target in targets:
        assert (read(target, 4, np.int32) == 1).all()
    ok(api.cuMemcpyDtoDAsync(targets[0], source, 16, stream(NON_BLOCKING)))
    fill(source, 5, stream(NON_BLOCKING))
    machine.settle()
    assert "the first writes and the second reads 16 bytes" in machine.faults.pop()


def test_queries_are_not_ready_until_work_was_asked_for_again_and_again():
    p, s = memory(np.zeros(4, np.int32)), stream()
    event = ok(api.cuEventCreate(0))
    fill(p, 1, s)
    ok(api.cuEventRecord(event, s))
    for query in (lambda: api.cuEventQuery(event), lambda: api.cuStreamQuery(s)):
        with fails("NOT_READY"):
            ok(query())
    while api.cuEventQuery(event)[0] != api.CUresult.CUDA_SUCCESS:
        pass
    assert (peek(p, 4, np.int32) == 1).all()


def test_time_between_events():
    s, events = stream(), [ok(api.cuEventCreate(0)) for _ in range(2)]
    p = memory(np.zeros(4, np.int32))
    ok(api.cuEventRecord(events[0], s))
    fill(p, 1, s)
    ok(api.cuEventRecord(events[1], s))
    with fails("NOT_READY"):
        ok(api.cuEventElapsedTime(*events))
    ok(api.cuEventSynchronize(events[1]))
    assert ok(api.cuEventElapsedTime(*events)) > 0


def test_pageable_memory_is_staged_and_arrives_late(machine):
    p, s = memory(np.zeros(4, np.int32)), stream(NON_BLOCKING)
    x = np.full(4, 3, np.int32)
    ok(api.cuMemcpyHtoDAsync(p, x.ctypes.data, x.nbytes, s))
    x[:] = 9  # it was taken from already
    assert (peek(p, 4, np.int32) == 0).all()
    ok(api.cuStreamSynchronize(s))
    assert (peek(p, 4, np.int32) == 3).all()


def test_pinned_memory_is_read_when_the_copy_runs():
    p, s, x = memory(np.zeros(4, np.int32)), stream(NON_BLOCKING), pinned(4, np.int32)
    x[:] = 3
    ok(api.cuMemcpyHtoDAsync(p, x.ctypes.data, x.nbytes, s))
    x[:] = 9  # too early
    ok(api.cuStreamSynchronize(s))
    assert (peek(p, 4, np.int32) == 9).all()


def test_a_copy_to_pageable_memory_has_ended_when_the_call_returns():
    p, s, x = memory(np.full(4, 5, np.int32)), stream(NON_BLOCKING), np.zeros(4, np.int32)
    fill(p, 6, s)
    ok(api.cuMemcpyDtoHAsync(x.ctypes.data, p, x.nbytes, s))
    assert (x == 6).all()


def test_a_copy_to_pinned_memory_has_not():
    p, s, x = memory(np.full(4, 5, np.int32)), stream(NON_BLOCKING), pinned(4, np.int32)
    x[:] = 0
    ok(api.cuMemcpyDtoHAsync(x.ctypes.data, p, x.nbytes, s))
    assert (x == 0).all()
    ok(api.cuStreamSynchronize(s))
    assert (x == 5).all()


def test_an_ordinary_copy_of_pageable_memory_may_return_before_it_has_arrived(machine):
    """A kernel on a non-blocking stream that follows it is not ordered with it."""
    x, s = np.full(4, 3, np.int32), stream(NON_BLOCKING)
    p, q = int(ok(api.cuMemAlloc(16))), memory(np.zeros(4, np.int32))
    ok(api.cuMemcpyHtoD(p, x.ctypes.data, x.nbytes))
    assert (peek(p, 4, np.int32) == -1).all()
    ok(api.cuMemcpyDtoDAsync(q, p, 16, s))
    machine.settle()
    assert "H2D" in machine.faults[0]
    machine.faults.clear()


def test_functions_of_the_host_run_in_order_and_may_not_use_cuda(machine):
    p, s, seen = memory(np.zeros(4, np.int32)), stream(), []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def called(_):
        seen.append((peek(p, 4, np.int32)[0], api.cuMemGetInfo()[0].name))

    fill(p, 1, s)
    ok(api.cuLaunchHostFunc(s, ctypes.cast(called, ctypes.c_void_p).value, 0))
    assert seen == []
    ok(api.cuStreamSynchronize(s))
    assert seen == [(1, "CUDA_ERROR_NOT_PERMITTED")]


def test_what_a_destroyed_stream_had_queued_runs():
    p, s = memory(np.zeros(4, np.int32)), stream(NON_BLOCKING)
    fill(p, 1, s)
    ok(api.cuStreamDestroy(s))
    ok(api.cuCtxSynchronize())
    assert (peek(p, 4, np.int32) == 1).all()
    with fails("INVALID_HANDLE"):
        ok(api.cuStreamSynchronize(s))


def test_each_thread_has_its_own_stream_and_stack_of_contexts(machine, context):
    p, statuses = memory(np.zeros(4, np.int32)), []
    mine = api.CUstream(api.CU_STREAM_PER_THREAD)

    def other():
        statuses.append(api.cuMemsetD32Async(p, 1, 4, mine)[0].name)
        ok(api.cuCtxSetCurrent(context))
        fill(p, 2, mine)

    fill(p, 3, mine)
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert statuses == ["CUDA_ERROR_INVALID_CONTEXT"]
    machine.settle()
    assert "a per-thread default stream" in machine.faults.pop()
