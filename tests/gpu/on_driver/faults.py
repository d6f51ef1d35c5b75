"""Faults that are planted under the library, at its calls of the driver: each is caught.

Caught is: an error is raised, the driver finds a fault, or the bits differ from the host's.  The same runs without the
fault are clean.
"""

import ctypes
import threading

import numpy as np
import pytest
from cuda.bindings import driver as api
from numba import cuda

from nagd_numba import step
from nagd_numba.gpu import driver

from .arrays import arrays, graph_of, new_stream, on_device, replay, same

# ------------------------------------------------------------------ what runs


def on_a_stream():
    """The gradient comes on the stream of the step, and the result goes on it."""
    host, stream = arrays(100), new_stream()
    device = on_device(host)
    g = 2 * host[1]
    pointer = device[1].__cuda_array_interface__["data"][0]
    assert api.cuMemcpyHtoDAsync(pointer, g.ctypes.data, g.nbytes, stream)[0] == 0
    step(*device, stream=stream)
    out = np.empty_like(g)
    pointer = device[0].__cuda_array_interface__["data"][0]
    status, *_ = api.cuMemcpyDtoHAsync(out.ctypes.data, pointer, out.nbytes, stream)
    assert status == 0, status
    step(host[0], g, host[2])
    np.testing.assert_array_equal(out, host[0])


def list_on_a_stream():
    host, stream = [[x] for x in arrays(100)], new_stream()
    device = [on_device(column) for column in host]
    step(*device, stream=stream)
    assert api.cuStreamSynchronize(stream)[0] == 0
    step(*host)
    same(device[0], host[0])


def captured_list():
    host = [[x] for x in arrays(100)]
    device = [on_device(column) for column in host]
    step(*device)
    graph, stream = graph_of(lambda s: step(*device, stream=s))
    for _ in range(2):
        replay(graph, stream)
    assert api.cuStreamSynchronize(stream)[0] == 0
    for _ in range(3):
        step(*host)
    same(device[0], host[0])


def in_a_thread():
    """Which has no context."""
    host = arrays(100)
    device, failed = on_device(host), []

    def run():
        try:
            step(*device)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    step(*host)
    same(device, host)


def on_the_second_device():
    cuda.select_device(0)
    host = arrays(100)
    with cuda.gpus[1]:
        device = on_device(host)
    step(*device)
    step(*host)
    with cuda.gpus[1]:
        same(device, host)


# ------------------------------------------------------------------ what is changed


def nothing(call, *arguments):
    """A call that is missing."""


def legacy_stream(launch, function, grid, block, shared, stream, params, extra):
    launch(function, grid, block, shared, 0, params, extra)


def legacy_copy(copy, target, source, nbytes, stream):
    copy(target, source, nbytes, 0)


def words(params, count):
    return [ctypes.c_uint64.from_address(params + 8 * k).value for k in range(count)]


def table_freed(launch, function, grid, block, shared, stream, params, extra):
    """Memory that the kernel's first argument points to is freed when it is launched."""
    address = ctypes.c_uint64.from_address(words(params, 1)[0]).value
    machine = driver_of_tests()
    machine.space.end(machine.space.at(address))
    launch(function, grid, block, shared, stream, params, extra)


def driver_of_tests():
    from tests import cuda_driver

    return cuda_driver.current()


def first_two_changed_about(launch, function, grid, block, shared, stream, params, extra):
    first, second, *others = words(params, 6)
    made = (ctypes.c_uint64 * 6)(second, first, *others)
    launch(function, grid, block, shared, stream, ctypes.addressof(made), extra)


def first_left_out(launch, function, grid, block, shared, stream, params, extra):
    launch(function, grid, block, shared, stream, params + 8, extra)


def one_element_more(launch, function, grid, block, shared, stream, params, extra):
    """The kernel of one array: params, grads, velocity, master, size."""
    cells = words(params, 6)
    size = ctypes.c_int64(ctypes.c_int64.from_address(cells[4]).value + 1)
    made = (ctypes.c_uint64 * 16)(*words(params, 16))
    made[4] = ctypes.addressof(size)
    launch(function, grid, block, shared, stream, ctypes.addressof(made), extra)


def too_large_a_block(launch, function, grid, block, shared, stream, params, extra):
    launch(function, grid, (2048, 1, 1), shared, stream, params, extra)


def no_blocks(launch, function, grid, block, shared, stream, params, extra):
    launch(function, (0, 1, 1), block, shared, stream, params, extra)


def much_shared_memory(launch, function, grid, block, shared, stream, params, extra):
    launch(function, grid, block, 100 << 10, stream, params, extra)


def launched_twice(launch, *arguments):
    launch(*arguments)
    launch(*arguments)


def older_device(attribute, out, number, device):
    """The device says that it is one of sm_80."""
    attribute(out, number, device)
    if number in (75, 76):
        ctypes.c_int.from_address(out).value = {75: 8, 76: 0}[number]


LOADED_ANEW = {"cuDeviceGetAttribute"}  # faults that matter only until the kernel is loaded
FAULTS = {
    "a missing stream argument": (on_a_stream, {"launch": legacy_stream}),
    "a missing stream argument, of a list": (list_on_a_stream, {"launch": legacy_stream}),
    "a missing stream argument, in a capture": (captured_list, {"launch": legacy_stream}),
    "a table that is copied on another stream": (list_on_a_stream, {"cuMemcpyHtoDAsync_v2": legacy_copy}),
    "a table freed before its kernel has run": (list_on_a_stream, {"launch": table_freed}),
    "a table of a graph freed early": (captured_list, {"launch": table_freed}),
    "a missing context": (in_a_thread, {"cuCtxPushCurrent_v2": nothing, "cuCtxSetCurrent": nothing}),
    "the context of another device": (
        on_the_second_device,
        {"cuCtxPushCurrent_v2": nothing, "cuCtxSetCurrent": nothing, "cuCtxPopCurrent_v2": nothing},
    ),
    "a missing launch": (on_a_stream, {"launch": nothing}),
    "a kernel launched twice": (on_a_stream, {"launch": launched_twice}),
    "arguments changed about": (on_a_stream, {"launch": first_two_changed_about}),
    "an argument left out": (on_a_stream, {"launch": first_left_out}),
    "one element too many": (on_a_stream, {"launch": one_element_more}),
    "too many threads": (on_a_stream, {"launch": too_large_a_block}),
    "no blocks": (on_a_stream, {"launch": no_blocks}),
    "shared memory that was not opted in to": (on_a_stream, {"launch": much_shared_memory}),
    "machine code for another architecture": (on_a_stream, {"cuDeviceGetAttribute": older_device}),
}


@pytest.mark.parametrize("scenario", [on_a_stream, list_on_a_stream, captured_list, in_a_thread, on_the_second_device])
def test_without_a_fault(scenario, seed):
    scenario()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(machine, name):
    scenario, planted = FAULTS[name]
    if LOADED_ANEW & set(planted):
        driver.use(driver.Driver())
    driver.current()
    cuda.current_context()
    for call, change in planted.items():
        machine.instead(call, change)
    caught = None
    try:
        scenario()
        machine.settle()
    except Exception as error:
        caught = error
    machine.heal()
    machine.settle()
    driver.use(driver.Driver())
    assert caught is not None or machine.faults, f"{name} was not caught"
    machine.faults.clear()
