"""Memory: what lies in it before it is written and after it was freed, and who may still touch it."""

import numpy as np
import pytest

from .calls import NON_BLOCKING, api, enter, fails, memory, ok, peek, read


@pytest.fixture(autouse=True)
def context(machine):
    return enter()


def test_new_memory_holds_nan():
    p = int(ok(api.cuMemAlloc(40)))
    assert np.isnan(read(p, 10)).all()


def test_freed_memory_is_poisoned_and_cannot_be_used(machine):
    p, q = memory(np.ones(10, np.float32)), memory(np.ones(10, np.float32))
    ok(api.cuMemFree(p))
    assert np.isnan(peek(p, 10)).all()
    with fails("INVALID_VALUE", machine, "freed at on_driver/allocations.py:"):
        ok(api.cuMemcpyDtoDAsync(q, p, 40, 0))
    with fails("INVALID_VALUE", machine, "freed at"):
        ok(api.cuMemFree(p))
    with fails("INVALID_VALUE"):
        ok(api.cuPointerGetAttribute(api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, p))


def test_a_free_waits_for_the_streams_of_its_context():
    p, q, s = memory(np.ones(10, np.float32)), memory(np.zeros(10, np.float32)), ok(api.cuStreamCreate(NON_BLOCKING))
    ok(api.cuMemcpyDtoDAsync(q, p, 40, s))
    ok(api.cuMemFree(p))
    assert (peek(q, 10) == 1).all()


def test_copies_stay_within_an_allocation(machine):
    p, q = memory(np.ones(10, np.float32)), memory(np.ones(10, np.float32))
    with fails("INVALID_VALUE", machine, "4 too many"):
        ok(api.cuMemcpyDtoDAsync(q, p, 44, 0))
    with fails("INVALID_VALUE", machine, "is no device memory"):
        ok(api.cuMemcpyDtoDAsync(q, q + 400, 4, 0))
    host = np.ones(10, np.float32)
    with fails("INVALID_VALUE", machine, "is no device memory"):
        ok(api.cuMemcpyHtoD(host.ctypes.data, host.ctypes.data, 40))
    with fails("INVALID_VALUE", machine, "cannot be read"):
        ok(api.cuMemcpyHtoD(p, 16, 40))


def test_memory_runs_out_and_can_be_had_again(machine):
    free, total = ok(api.cuMemGetInfo())
    assert free <= total == machine.devices[0].memory
    with fails("OUT_OF_MEMORY", machine, f"{free + 1} bytes; {free} are free"):
        ok(api.cuMemAlloc(free + 1))
    p = ok(api.cuMemAlloc(1 << 20))
    assert ok(api.cuMemGetInfo())[0] == free - (1 << 20)
    ok(api.cuMemFree(p))
    assert ok(api.cuMemGetInfo())[0] == free
    with fails("INVALID_VALUE"):
        ok(api.cuMemAlloc(0))


def test_stream_ordered_memory(machine, seed):
    s, host = ok(api.cuStreamCreate(NON_BLOCKING)), np.zeros(10, np.float32)
    p = int(ok(api.cuMemAllocAsync(40, s)))
    ok(api.cuMemcpyHtoDAsync(p, np.ones(10, np.float32).ctypes.data, 40, s))
    ok(api.cuMemcpyDtoHAsync(host.ctypes.data, p, 40, s))
    ok(api.cuMemFreeAsync(p, s))
    assert (host == 1).all()
    machine.settle()
    assert np.isnan(peek(p, 10)).all()


def test_stream_ordered_memory_before_its_allocation(machine):
    one, other = (ok(api.cuStreamCreate(NON_BLOCKING)) for _ in range(2))
    target = memory(np.zeros(10, np.float32))
    p = int(ok(api.cuMemAllocAsync(40, one)))
    ok(api.cuMemcpyDtoDAsync(target, p, 40, other))
    with fails("ILLEGAL_ADDRESS"):
        ok(api.cuStreamSynchronize(other))
    assert "not yet allocated in its stream" in machine.faults.pop()


def test_stream_ordered_memory_after_its_free(machine):
    s, target = ok(api.cuStreamCreate(NON_BLOCKING)), memory(np.zeros(10, np.float32))
    p = int(ok(api.cuMemAllocAsync(40, s)))
    ok(api.cuMemFreeAsync(p, s))
    ok(api.cuMemcpyDtoDAsync(target, p, 40, s))
    with fails("ILLEGAL_ADDRESS"):
        ok(api.cuStreamSynchronize(s))
    assert "freed at" in machine.faults.pop()


def test_memory_freed_under_another_stream_is_a_race(machine):
    """As a temporary that its own stream frees while another still reads it."""
    one, other, event = *(ok(api.cuStreamCreate(NON_BLOCKING)) for _ in range(2)), ok(api.cuEventCreate(0))
    target = memory(np.zeros(10, np.float32))
    p = int(ok(api.cuMemAllocAsync(40, one)))
    ok(api.cuEventRecord(event, one))
    ok(api.cuStreamWaitEvent(other, event, 0))
    ok(api.cuMemcpyDtoDAsync(target, p, 40, other))
    ok(api.cuMemFreeAsync(p, one))
    machine.settle()
    assert any("race" in fault or "ILLEGAL_ADDRESS" in fault for fault in machine.faults)
    machine.faults.clear()


def test_where_memory_is():
    p = memory(np.ones(10, np.float32))
    kind = api.CUpointer_attribute
    assert ok(api.cuPointerGetAttribute(kind.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, p + 8)) == 0
    assert int(ok(api.cuPointerGetAttribute(kind.CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, p + 8))) == p
    start, size = ok(api.cuMemGetAddressRange(p + 8))
    assert (int(start), size) == (p, 40)
    host = np.ones(10, np.float32)
    with fails("INVALID_VALUE"):
        ok(api.cuPointerGetAttribute(kind.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, host.ctypes.data))
