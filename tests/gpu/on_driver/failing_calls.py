"""Every call of the driver may fail: the error says which and how, nothing is half written, and the next call works."""

import gc

import numpy as np
import pytest
from cuda.bindings import driver as api
from numba import cuda

from nagd_numba import step
from nagd_numba.gpu import driver, repeats, tables
from nagd_numba.optimizers.bound import bind

from .arrays import GLOBAL, arrays, new_stream, on_device


def one(device, stream):
    step(*device, stream=stream)


def a_list(device, stream):
    step(*([x] for x in device), stream=stream)


def bound(device, stream):
    bind(step, *device, stream=stream)()


def failure(take, *arguments):
    """What a call raises, or None."""
    try:
        take(*arguments)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("take", [one, *(pytest.param(x, marks=pytest.mark.ci) for x in (a_list, bound))])
def test_any_call_of_a_step_that_fails(machine, take):
    """Once for each call that a step on new arrays makes: it was done as a whole, or not at all."""
    here, host = driver.current(), arrays(200)
    cuda.current_context()
    stream = new_stream()

    def fresh():
        cuda.synchronize()
        repeats.known.clear()
        tables.forget(here)
        here._loaded.clear()  # loading is among the calls
        gc.collect()
        cuda.current_context().deallocations.clear()  # what Numba has put off would be among them at some time
        return on_device(host)

    stepped = [x.copy() for x in host]
    step(*stepped)
    take(fresh(), stream)  # compiled
    device = fresh()
    before = len(machine.log)
    take(device, stream)
    calls = machine.log[before:]
    assert len(calls) > 5
    failed = 0
    for k, call in enumerate(calls):
        device = fresh()
        machine.fail(None, "OUT_OF_MEMORY", after=k)
        error = failure(take, device, stream)
        if error is None:
            assert call in ("cuEventDestroy", "cuEventDestroy_v2", "cuEventQuery", "cuCtxPopCurrent"), call
        else:
            assert isinstance(error, MemoryError | ValueError)
            assert "CUDA_ERROR_OUT_OF_MEMORY" in str(error), call
            failed += 1
        machine.heal()
        api.cuStreamSynchronize(stream)
        cuda.synchronize()
        got = [x.copy_to_host() for x in device]
        assert any(all(np.array_equal(x, y) for x, y in zip(got, wanted, strict=True)) for wanted in (host, stepped)), (
            f"half written where {call} failed"
        )
        device = on_device(host)
        take(device, stream)
        api.cuStreamSynchronize(stream)
        cuda.synchronize()
        np.testing.assert_array_equal(device[0].copy_to_host(), stepped[0], err_msg=call)
    assert failed > 4
    machine.faults.clear()


def test_what_is_said(machine):
    host = arrays(100)
    device = on_device(host)
    step(*device)
    machine.fail("cuLaunchKernel", "LAUNCH_OUT_OF_RESOURCES")
    with pytest.raises(RuntimeError, match=r"cuLaunchKernel returned CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES.*registers"):
        step(*device)
    machine.fail("cuLaunchKernel", "OUT_OF_MEMORY")
    with pytest.raises(MemoryError, match=r"Starting a CUDA kernel failed: cuLaunchKernel returned .*; free"):
        step(*device)
    here = driver.current()
    machine.fail("cuMemAlloc_v2", "OUT_OF_MEMORY")
    machine.fail("cuMemAlloc_v2", "OUT_OF_MEMORY")
    with pytest.raises(MemoryError, match="Allocating 400 bytes on device 0 failed"):
        here.empty(100, np.float32, 0)
    machine.heal()
    with pytest.raises(RuntimeError, match=r"CUDA_ERROR_INVALID_HANDLE.*the stream was destroyed, or"):
        step(*device, stream=12345)
    step(*host)
    cuda.synchronize()
    np.testing.assert_array_equal(device[0].copy_to_host(), host[0])


def test_a_kernel_that_fails_is_found_when_the_host_waits(machine):
    device, here = on_device(arrays(100)), driver.current()
    machine.fail_kernel("ILLEGAL_ADDRESS")
    step(*device)
    with pytest.raises(RuntimeError, match=r"CUDA_ERROR_ILLEGAL_ADDRESS.*a kernel that was started earlier failed"):
        here.synchronize(0, 0)
    machine.faults.clear()


def test_a_first_step_within_a_capture_says_what_to_do(machine):
    device, here = on_device(arrays(100)), driver.current()
    stream = new_stream()
    assert api.cuStreamBeginCapture(stream, GLOBAL)[0] == 0
    with pytest.raises(RuntimeError, match=r"CUDA_ERROR_STREAM_CAPTURE.*while a stream is captured"):
        here.synchronize(0, stream)
    api.cuStreamEndCapture(stream)
    step(*device)


class TestAvailability:
    def test_a_device(self):
        assert driver.Driver().why_not() is None

    def test_no_libnvvm_is_not_the_drivers_fault(self, monkeypatch):
        from cuda.bindings import nvvm

        def missing():
            raise RuntimeError("libnvvm.so.4 was not found")

        monkeypatch.setattr(nvvm, "version", missing)
        said = driver.Driver().why_not()
        assert "there is a driver with 2 device(s), but libnvvm" in said
        assert "libnvvm.so.4 was not found" in said
        assert "looked for the NVIDIA driver" not in said

    @pytest.mark.parametrize(
        ("call", "returned", "message"),
        [
            ("cuInit", (api.CUresult.CUDA_ERROR_NO_DEVICE,), "cuInit returned CUDA_ERROR_NO_DEVICE"),
            ("cuDeviceGetCount", (api.CUresult.CUDA_SUCCESS, 0), "the driver lists no device"),
        ],
    )
    def test_no_device(self, monkeypatch, call, returned, message):
        monkeypatch.setattr(api, call, lambda *_: returned)
        assert driver.Driver().why_not().endswith(message)
