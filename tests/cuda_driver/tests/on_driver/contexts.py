"""Contexts, devices, and calls that fail because a test wants it."""

import numpy as np
import pytest

from .calls import api, enter, fails, memory, ok, peek, read


@pytest.fixture(autouse=True)
def no_context(machine):
    ok(api.cuInit(0))
    while api.cuCtxPopCurrent()[0] == api.CUresult.CUDA_SUCCESS:
        pass


def test_calls_need_a_context():
    for call in (lambda: api.cuMemAlloc(16), lambda: api.cuStreamCreate(0), api.cuCtxSynchronize):
        with fails("INVALID_CONTEXT"):
            ok(call())


def test_a_stack_of_contexts():
    first, second = (ok(api.cuDevicePrimaryCtxRetain(k)) for k in range(2))
    assert int(ok(api.cuCtxGetCurrent())) == 0
    ok(api.cuCtxPushCurrent(first))
    ok(api.cuCtxPushCurrent(second))
    assert int(ok(api.cuCtxGetDevice())) == 1
    assert int(ok(api.cuCtxPopCurrent())) == int(second)
    assert int(ok(api.cuCtxGetDevice())) == 0
    ok(api.cuCtxSetCurrent(second))
    assert int(ok(api.cuCtxGetDevice())) == 1
    ok(api.cuCtxPopCurrent())
    with fails("INVALID_CONTEXT"):
        ok(api.cuCtxGetDevice())


def test_each_device_has_its_memory():
    assert ok(api.cuDeviceGetCount()) == 2
    ordinal = api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    places = []
    for device in range(2):
        enter(device)
        before = ok(api.cuMemGetInfo())[0]
        places.append(memory(np.zeros(4, np.int32)))
        assert ok(api.cuMemGetInfo())[0] < before
    assert [int(ok(api.cuPointerGetAttribute(ordinal, p))) for p in places] == [0, 1]


def test_an_event_of_another_context_cannot_be_recorded():
    enter(0)
    event = ok(api.cuEventCreate(0))
    enter(1)
    with fails("INVALID_HANDLE"):
        ok(api.cuEventRecord(event, ok(api.cuStreamCreate(0))))


def test_streams_of_two_devices_are_ordered_by_events_alone(machine):
    contexts, streams = [enter(0), enter(1)], []
    p = None
    for context in contexts:
        ok(api.cuCtxSetCurrent(context))
        streams.append(ok(api.cuStreamCreate(0)))
        p = p or memory(np.zeros(4, np.int32))
    ok(api.cuCtxSetCurrent(contexts[0]))
    event = ok(api.cuEventCreate(0))
    ok(api.cuMemsetD32Async(p, 1, 4, streams[0]))
    ok(api.cuEventRecord(event, streams[0]))
    ok(api.cuStreamWaitEvent(streams[1], event, 0))
    ok(api.cuMemsetD32Async(p, 2, 4, streams[1]))
    ok(api.cuStreamSynchronize(streams[1]))
    assert (peek(p, 4, np.int32) == 2).all()
    ok(api.cuMemsetD32Async(p, 3, 4, streams[0]))
    ok(api.cuMemsetD32Async(p, 4, 4, streams[1]))
    machine.settle()
    assert "race" in machine.faults.pop()


def test_a_call_fails_as_wanted_and_does_nothing(machine):
    enter()
    p = memory(np.zeros(4, np.int32))
    machine.fail("cuMemsetD32Async", "LAUNCH_FAILED", after=1)
    ok(api.cuMemsetD32Async(p, 1, 4, 0))
    with fails("LAUNCH_FAILED"):
        ok(api.cuMemsetD32Async(p, 2, 4, 0))
    assert (read(p, 4, np.int32) == 1).all()
    ok(api.cuMemsetD32Async(p, 3, 4, 0))
    assert (read(p, 4, np.int32) == 3).all()


def test_any_call_can_fail(machine):
    enter()
    machine.fail(error="OUT_OF_MEMORY", after=1)
    ok(api.cuCtxSynchronize())
    with fails("OUT_OF_MEMORY"):
        ok(api.cuStreamCreate(0))
    ok(api.cuStreamCreate(0))


def test_a_call_is_changed_as_wanted(machine):
    enter()
    p, other = memory(np.zeros(4, np.int32)), memory(np.zeros(4, np.int32))
    machine.instead("cuMemsetD32Async", lambda fill, address, *rest: fill(other, *rest))
    ok(api.cuMemsetD32Async(p, 1, 4, 0))
    machine.heal()
    assert (read(p, 4, np.int32) == 0).all()
    assert (read(other, 4, np.int32) == 1).all()


def test_texts_of_errors():
    assert ok(api.cuGetErrorName(api.CUresult.CUDA_ERROR_OUT_OF_MEMORY)) == b"CUDA_ERROR_OUT_OF_MEMORY"
    assert b"out of memory" in ok(api.cuGetErrorString(api.CUresult.CUDA_ERROR_OUT_OF_MEMORY))
