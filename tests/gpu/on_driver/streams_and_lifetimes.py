"""What the libraries of arrays, streams, graphs and contexts demand of a step: each was wrong once."""

import gc
import sys
import threading
import types
import weakref

import numpy as np
import pytest
from cuda.bindings import driver as api
from numba import cuda

from nagd_numba import step
from nagd_numba.gpu import driver, repeats

from .arrays import arrays, graph_of, new_stream, on_device, replay, same


class Wrapper:
    """An array of some library, whose memory may move and whose values are made on some stream."""

    def __init__(self, inner, **changes):
        self.inner, self.changes = inner, changes

    @property
    def __cuda_array_interface__(self):
        return {**self.inner.__cuda_array_interface__, **self.changes}


class FakeTorch(types.ModuleType):
    """As much of PyTorch as a step asks for, on the device of these tests."""

    def __init__(self):
        super().__init__("torch")
        self.current, self.told = 0, []

        class Tensor:
            is_cuda, dtype = True, "torch.float32"

            def __init__(self, inner):
                self.inner = inner

            shape = property(lambda self: self.inner.shape)

            def is_neg(self):
                return False

            def is_complex(self):
                return False

            def detach(self):
                return self

            def element_size(self):
                return 4

            def stride(self):
                return (1,)

            def data_ptr(self):
                return self.inner.__cuda_array_interface__["data"][0]

            def numel(self):
                return self.inner.size

            def is_contiguous(self):
                return True

        self.Tensor = Tensor
        self._C = types.SimpleNamespace(_cuda_getCurrentRawStream=lambda device: self.current)
        told = types.SimpleNamespace(increment_version=self.told.append)
        self.autograd = types.SimpleNamespace(graph=told)


@pytest.fixture
def torch(monkeypatch):
    fake = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", fake)
    yield fake
    repeats.known.clear()


@pytest.mark.parametrize("tensors", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_arrays_of_two_libraries(torch, tensors):
    host = arrays(100)
    inner = on_device(host)
    mixed = [torch.Tensor(x) if k in tensors else x for k, x in enumerate(inner)]
    for _ in range(3):
        step(*mixed, lr=0.1)
        step(*host, lr=0.1)
    same(inner, host)
    assert len(torch.told) == 3 * sum(k in tensors for k in (0, 2)), "autograd is told of each tensor that was written"


def test_libraries_with_streams_of_their_own_wait_for_each_other(torch, seed):
    """Gradients that PyTorch makes on its side stream, beside parameters of another library."""
    host = arrays(300)
    inner = on_device([host[0], np.zeros_like(host[1]), host[2]])
    mixed = [inner[0], torch.Tensor(inner[1]), inner[2]]
    torch.current = new_stream()
    for _ in range(2):
        api.cuMemcpyHtoDAsync(mixed[1].data_ptr(), host[1].ctypes.data, host[1].nbytes, torch.current)
        step(*mixed)
        api.cuMemsetD8Async(mixed[1].data_ptr(), 0, host[1].nbytes, torch.current)  # after the step has read it
        step(*host)
    same([inner[0], inner[2]], [host[0], host[2]])


def test_the_stream_that_an_interface_names_is_waited_for(seed):
    host, stream = arrays(300), new_stream()
    inner = on_device([np.zeros_like(x) for x in host])
    wrapped = [Wrapper(x, stream=stream) for x in inner]
    for x, y in zip(inner, host, strict=True):
        api.cuMemcpyHtoDAsync(x.__cuda_array_interface__["data"][0], y.ctypes.data, y.nbytes, stream)
    step(*wrapped, stream=new_stream())
    step(*host)
    same(inner, host)


def test_arrays_of_a_stream_are_stepped_on_it(machine):
    host, stream = arrays(300), cuda.stream()
    device = [cuda.to_device(x, stream=stream) for x in host]
    for _ in range(2):
        step(*device)
        step(*host)
    got = [x.copy_to_host() for x in device]  # on the arrays' stream
    stream.synchronize()
    for x, y in zip(got, host, strict=True):
        np.testing.assert_array_equal(x, y)
    assert "cuStreamWaitEvent" not in machine.log


class Jax:
    """An array of JAX: no stream, made when it is asked to be."""

    __module__ = "jaxlib._jax"

    def __init__(self, inner, values):
        self.inner, self.values, self.ready = inner, values, False

    def block_until_ready(self):
        self.inner.copy_to_device(self.values)
        cuda.synchronize()
        self.ready = True

    @property
    def __cuda_array_interface__(self):
        interface = {**self.inner.__cuda_array_interface__, "version": 2}
        del interface["stream"]
        return interface


def test_gradients_of_jax_are_waited_for_and_live_until_the_step_has_read_them(machine):
    host = arrays(100)
    p, v = on_device([host[0], host[2]])
    stream = new_stream()
    grads = Jax(*on_device([np.zeros(100, np.float32)]), host[1])
    gone = weakref.ref(grads)
    step(p, grads, v, stream=stream)
    assert grads.ready
    del grads
    assert gone() is not None, "the step may not have begun"
    machine.settle()
    more = Jax(*on_device([np.zeros(100, np.float32)]), host[1])
    step(p, more, v, stream=stream)
    assert gone() is None
    for _ in range(2):
        step(*host)
    same([p, v], [host[0], host[2]])


def test_a_wrapper_whose_memory_moves():
    hosts = [arrays(16), arrays(32)]
    devices = [on_device(x) for x in hosts]
    wrapped = [Wrapper(x) for x in devices[0]]
    for host, device in zip(hosts, devices, strict=True):
        for wrapper, x in zip(wrapped, device, strict=True):
            wrapper.inner = x
        step(*wrapped)
        step(*wrapped)
        step(*host)
        step(*host)
        same(device, host)


SIZES = (10, 300, 1)


def lists():
    host = [[arrays(n, seed=n)[k] for n in SIZES] for k in range(3)]
    return host, [on_device(column) for column in host]


def same_lists(device, host):
    for k in (0, 2):
        same(device[k], host[k])


def test_a_list_with_new_gradient_objects_is_captured(machine):
    """Nothing is allocated, copied at once or waited for; what the graph reads lives as long as it may be replayed."""
    host, device = lists()
    step(*device)
    step(*host)
    memory = device[1]

    def body(stream):
        for _ in range(2):
            grads = [Wrapper(x) for x in memory]  # as after zero_grad(set_to_none=True)
            step(device[0], grads, device[2], stream=stream)

    graph, stream = graph_of(body)
    calls = [call.removesuffix("_v2") for call in machine.log]
    begun = calls.index("cuStreamBeginCapture")
    assert not {"cuMemAlloc", "cuMemcpyHtoD", "cuCtxSynchronize", "cuStreamSynchronize"} & set(calls[begun:])
    gc.collect()
    for _ in range(3):
        replay(graph, stream)
        step(*host)
        step(*host)
    same_lists(device, host)


def test_the_table_of_a_captured_list_outlives_its_arrays_and_many_other_steps(monkeypatch, seed):
    host, device = lists()
    grads = [Wrapper(x) for x in device[1]]
    step(device[0], grads, device[2])
    step(*host)
    graph, stream = graph_of(lambda s: step(device[0], grads, device[2], stream=s))
    del grads[0]
    gc.collect()
    monkeypatch.setattr(repeats, "KEPT", 2)
    for k in range(4):  # evicts it, and takes any memory that was given back
        others = [[Wrapper(x) for x in on_device(arrays(8, seed=k))] for _ in range(3)]
        step(*others[0])
        step(*[list(column) for column in zip(*others[1:], strict=True)])
    cuda.synchronize()
    for _ in range(2):
        replay(graph, stream)
        step(*host)
    same_lists(device, host)


def test_what_is_known_of_arrays_goes_at_once(machine):
    """With no collection: a table that goes at some later time could be freed within a capture."""
    gc.disable()
    try:
        _, device = lists()
        step(*device)
        launch = weakref.ref(next(iter(repeats.known.values())).launch)
        del device
        assert launch() is None
    finally:
        gc.enable()


def test_lists_with_new_gradients_use_one_memory_again(machine, seed):
    host, device = lists()
    stream = new_stream()
    step(*device, stream=stream)
    step(*host)
    before = len(machine.log)
    for _ in range(5):
        step(device[0], [Wrapper(x) for x in device[1]], device[2], stream=stream)
        step(*host)
    log = machine.log[before:]
    assert not [x for x in log if x.startswith("cuMemAlloc")][1:], "at most one more"
    same_lists(device, host)


def test_a_list_on_one_stream_after_another(seed):
    """The second waits for the table, which is uploaded on the first."""
    host, device = lists()
    first, second = new_stream(), new_stream()
    step(*device, stream=first)
    driver.current().order(first, second, 0)  # the caller's arrays
    step(*device, stream=second)
    step(*host)
    step(*host)
    same_lists(device, host)


def current_context():
    status, context = api.cuCtxGetCurrent()
    assert status == 0
    return int(context)


def test_no_call_changes_the_current_context():
    host = arrays(100)
    here = driver.current()
    with cuda.gpus[1]:
        device = on_device(host)
    primary = int(api.cuDevicePrimaryCtxRetain(0)[1])
    api.cuCtxSetCurrent(primary)
    columns = [[x] for x in device]

    def rewritten():
        array = here.upload(host[0], 1)
        here.rewrite(array, host[1], 0)
        here.synchronize(1, 0)
        np.testing.assert_array_equal(here.download(array), host[1])

    for call in (
        lambda: step(*device),
        lambda: step(*device),
        lambda: step(*columns),
        rewritten,
        lambda: here.empty(10, np.float32, 1),
        lambda: here.multiprocessors(1),
        lambda: here.order(0, new_stream(), 0),
    ):
        call()
        assert current_context() == primary


def test_a_thread_without_a_context_has_none_afterwards():
    here, found = driver.current(), []
    array = here.upload(np.zeros(100, np.float32), 0)

    def other():
        try:
            here.rewrite(array, np.ones(100, np.float32), 0)
            here.synchronize(0, 0)
            found.append(current_context())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [0]
    np.testing.assert_array_equal(here.download(array), 1)


def test_results_belong_to_their_stream(seed):
    here, stream = driver.current(), new_stream()
    x = np.arange(100, dtype=np.float32)
    array = here.upload(x, 0, stream)
    assert array.__cuda_array_interface__["stream"] == stream
    x[:] = 0  # it was staged, or is kept
    api.cuStreamSynchronize(stream)
    np.testing.assert_array_equal(array.copy_to_host(), np.arange(100))


def test_a_copy_of_host_memory_that_goes_at_once(seed):
    here, stream = driver.current(), new_stream()
    array = here.empty(1000, np.float32, 0, stream)
    for value in range(3):
        here.rewrite(array, np.full(1000, value, np.float32), stream)
    np.testing.assert_array_equal(here.download(array, stream), 2)
