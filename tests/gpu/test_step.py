"""`step` on device arrays: the compiled kernels and all that is above the driver, in the emulator."""

from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nagd_numba import adam_step, adamw_step, nadam_step, step
from nagd_numba import validation as arrays_module
from nagd_numba.gpu import elementwise, repeats, streams
from nagd_numba.gpu import launch as gpu_step
from nagd_numba.gpu.device_array import describe
from nagd_numba.optimizers.conventions import CONVENTIONS
from tests.helpers import fake_driver
from tests.helpers.bits import same_bits
from tests.helpers.half import Half, round_to, widen

pytestmark = pytest.mark.usefixtures("compiler")


def arrays(n, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=n).astype(dtype) for _ in range(3)]


@settings(max_examples=40)
@given(
    n=st.integers(0, 3000),
    offsets=st.one_of(st.integers(0, 5).map(lambda k: (k, k, k)), st.tuples(*[st.integers(0, 5)] * 3)),
    wide=st.booleans(),
    convention=st.sampled_from(CONVENTIONS),
    multiprocessors=st.integers(1, 3),
    threads=st.sampled_from([1, 31, 64, 256, 1024]),
    order=st.sampled_from(["forward", "reverse", "random"]),
)
def test_any_length_offset_and_grid_gives_the_bits_of_the_cpu(
    n, offsets, wide, convention, multiprocessors, threads, order
):
    dtype = np.dtype(np.float64 if wide else np.float32)
    host = arrays(n, dtype)
    with (
        mock.patch.object(elementwise, "THREADS", threads),
        fake_driver.installed(multiprocessors=multiprocessors, order=order) as gpu,
    ):
        device = [gpu.array(x, offset=k * dtype.itemsize) for x, k in zip(host, offsets, strict=True)]
        for _ in range(2):
            assert step(*device, lr=0.1, convention=convention, weight_decay=0.01) is device[0]
            step(*host, lr=0.1, convention=convention, weight_decay=0.01)
        assert all(same_bits(x, gpu.download(y)) for x, y in zip(host, device, strict=True))


@pytest.mark.parametrize("offset", range(4))
def test_aligned_arrays_move_in_groups(gpu, offset):
    """Offsets that are equal in all arrays leave a head of fewer than four elements; others leave no groups."""
    parts = [describe("x", gpu.array(x, offset=4 * offset), True) for x in arrays(100)]
    assert gpu_step.head(parts, 4) == -offset % 4
    parts[1] = describe("x", gpu.array(arrays(100)[1], offset=4 * (offset + 1)), True)
    assert gpu_step.head(parts, 4) == 100


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
@pytest.mark.parametrize("with_master", [False, True])
@pytest.mark.parametrize(("n", "offset"), [(1, 0), (7, 2), (1003, 0), (1003, 6), (64, 0)])
def test_half_precision_memory(gpu, storage, with_master, n, offset):
    p, g, v = arrays(n)
    p_bits, g_bits = round_to(p, storage), round_to(g, storage)
    device_p, device_g = (Half(gpu, bits, storage, offset) for bits in (p_bits, g_bits))
    device_v = gpu.array(v, offset=2 * offset)
    master = gpu.array(p, offset=2 * offset) if with_master else None
    exact = p.copy() if with_master else widen(p_bits, storage)
    for _ in range(3):
        step(device_p, device_g, device_v, lr=0.1, master=master)
        step(exact, widen(g_bits, storage), v, lr=0.1)
        if not with_master:
            exact = widen(round_to(exact, storage), storage)
    assert same_bits(gpu.download(device_p.inner), round_to(exact, storage))
    assert same_bits(gpu.download(device_v), v)
    if with_master:
        assert same_bits(gpu.download(master), exact)


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_half_precision_rounds_like_its_definition(gpu, storage):
    """Ties, subnormal numbers, overflow, infinities and NaN: a step with a rate of 0 rounds the master copy."""
    special = np.array(
        [1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 65519, 65520, 2.0**-25, 3e38, -0.0, np.inf, np.nan]
    )
    p = special.astype(np.float32)
    bits, zero = np.zeros(len(p), np.uint16), np.zeros(len(p), np.float32)
    params, grads = Half(gpu, bits, storage, 0), Half(gpu, bits, storage, 0)
    step(params, grads, gpu.array(zero), lr=0.0, momentum=0.0, master=gpu.array(p))
    got = widen(gpu.download(params.inner), storage)
    with np.errstate(over="ignore"):
        wanted = widen(round_to(p, storage), storage)
    assert np.isnan(got[-1])
    assert same_bits(got[:-1], wanted[:-1])


def test_a_list_is_one_launch(gpu):
    sizes = (10, 2 * elementwise.CHUNK + 5, 0, 3, elementwise.CHUNK)
    host = [[arrays(n, seed=k)[j] for k, n in enumerate(sizes)] for j in range(3)]
    device = [[gpu.array(x, offset=4 * k) for k, x in enumerate(column)] for column in host]
    for lr in (0.1, 0.1, 0.2):
        step(*device, lr=lr)
        step(*host, lr=lr)
    for here, there in zip(host, device, strict=True):
        assert all(same_bits(x, gpu.download(y)) for x, y in zip(here, there, strict=True))
    assert len(gpu.launches) == 3
    assert gpu.uploads == 1, "the table of addresses is made once"


def test_a_list_is_known_by_the_arrays_in_it(gpu, monkeypatch):
    host = [[arrays(8, seed=k)[j] for k in range(3)] for j in range(3)]
    device = [list(map(gpu.array, column)) for column in host]

    def both(lr):
        step(*host, lr=lr)
        step(*device, lr=lr)
        for here, there in zip(host, device, strict=True):
            assert all(same_bits(x, gpu.download(y)) for x, y in zip(here, there, strict=True))

    both(0.1)
    for lists in (host, device):  # in the same lists: another order, and another gradient
        for column in lists:
            column.reverse()
        lists[1][0] = lists[1][0].copy() if lists is host else gpu.array(host[1][0])
    both(0.2)
    monkeypatch.setattr(gpu_step.device_array, "describe", None)
    device[0] = tuple(device[0])  # in other lists
    both(0.3)


class Pair(NamedTuple):
    first: object
    second: object


@pytest.mark.parametrize("kinds", [(Pair, Pair, Pair), (list, Pair, tuple)], ids=["params", "grads"])
def test_lists_of_another_class_are_looked_at_each_time(gpu, kinds):
    for seed in range(3):
        host = [[arrays(8, seed=2 * seed + k)[j] for k in range(2)] for j in range(3)]
        columns = [list(map(gpu.array, column)) for column in host]
        device = [kind(*column) if kind is Pair else kind(column) for kind, column in zip(kinds, columns, strict=True)]
        for _ in range(2):
            step(*host)
            step(*device)
        assert all(
            same_bits(x, gpu.download(y)) for x, y in zip(host[0] + host[2], columns[0] + columns[2], strict=True)
        )


def test_a_long_list_is_checked_in_a_moment():
    """Pairs of arrays are compared only where they are near: a thousand arrays make half a million pairs."""
    columns = [[np.ones(2) for _ in range(1000)] for _ in range(3)]
    with mock.patch.object(arrays_module, "_shares_memory", side_effect=AssertionError("compared")):
        step(*columns)


def test_lists_of_host_arrays_are_checked_before_any_is_written():
    columns = [[np.ones(5), np.ones(3)] for _ in range(3)]
    step(*columns, lr=0.5, momentum=0.0)
    assert (columns[0][1] == 0.5).all()
    columns[1][1] = np.ones(4)
    with pytest.raises(ValueError, match=r"grads\[1\] has shape \(4,\)"):
        step(*columns)
    shared = np.ones(5)
    with pytest.raises(ValueError, match=r"params\[0\] and params\[1\] are the same memory"):
        step([shared, shared], [np.ones(5), np.ones(5)], [np.ones(5), np.ones(5)])
    with pytest.raises(TypeError, match="params is a list of 2 and vel has 1"):
        step(columns[0], columns[1], columns[2][:1])
    assert (columns[0][0] == 0.5).all()
    assert step([], [], []) == []


def test_arrays_met_before_are_not_described_again(gpu, monkeypatch):
    device = [gpu.array(x) for x in arrays(100)]
    step(*device)
    monkeypatch.setattr(gpu_step.device_array, "describe", None)
    host = arrays(100)
    step(*host)
    step(*device, lr=0.5)
    step(*host, lr=0.5)
    assert same_bits(gpu.download(device[0]), host[0])
    with pytest.raises(ValueError, match="lr is nan"):
        step(*device, lr=np.nan)
    assert same_bits(gpu.download(device[0]), host[0])


def test_what_is_known_of_arrays_goes_with_them(gpu):
    device = [gpu.array(x) for x in arrays(100)]
    step(*device)
    assert len(repeats.known) == 1
    del device
    assert not repeats.known


def test_other_options_are_another_launch(gpu):
    host, device = arrays(50), [gpu.array(x) for x in arrays(50)]
    for options in ({}, {"nesterov": False}, {"convention": "keras"}, {"weight_decay": 0.1}, {"maximize": True}, {}):
        step(*host, **options)
        step(*device, **options)
        assert same_bits(host[0], gpu.download(device[0])), options


@pytest.mark.parametrize("take", [adam_step, adamw_step, nadam_step], ids=lambda take: take.__name__)
def test_steps_with_two_states_have_the_bits_of_the_cpu(gpu, take):
    """Arrays and lists of them; the number of the step changes from launch to launch."""
    p, g, m = arrays(700)
    host, device = [[x.copy() for x in (p, g, m, m * m)] for _ in range(2)]
    device = [gpu.array(x) for x in device]
    for t in (1, 2, 50):
        take(*host, t, 0.1)
        take(*device, t, 0.1)
    assert all(same_bits(x, gpu.download(y)) for x, y in zip(host, device, strict=True))
    columns = [[gpu.array(x[:300]), gpu.array(x[300:])] for x in host]
    take(*host, 51, 0.1)
    take(*columns, 51, 0.1)
    for x, (first, second) in zip(host, columns, strict=True):
        assert same_bits(x, np.concatenate([gpu.download(first), gpu.download(second)]))


class Stream:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class CudaStream:
    def __cuda_stream__(self):
        return 0, 55


def test_streams(gpu):
    device = [gpu.array(x) for x in arrays(10)]
    for stream, handle in [
        (None, 0),
        (Stream(cuda_stream=11), 11),
        (Stream(ptr=22), 22),
        (Stream(handle=Stream(value=33)), 33),
        (Stream(handle=Stream(value=None)), 0),
        (44, 44),
        (CudaStream(), 55),
    ]:
        step(*device, stream=stream)
        assert gpu.launches[-1][2] == handle
    graph = Stream(begin_building=None, stream=CudaStream())
    step(*device, stream=graph)
    assert gpu.launches[-1][2] == 55
    for wrong in ("fast", -1, True, 1.5):
        with pytest.raises(TypeError, match="stream is "):
            step(*device, stream=wrong)
    assert streams.current_handle(device[0], 0) == 0


@pytest.mark.parametrize("call", ["launch", "load"])
def test_a_driver_that_fails_leaves_everything_as_it_was(gpu, call):
    host, device = arrays(100), [gpu.array(x) for x in arrays(100)]
    gpu.fail = call
    with pytest.raises(RuntimeError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        step(*device)
    assert all(same_bits(x, gpu.download(y)) for x, y in zip(host, device, strict=True))
    step(*device)
    step(*host)
    assert same_bits(host[0], gpu.download(device[0]))


def test_refusals(gpu):
    p, g, v = (gpu.array(x) for x in arrays(10))
    wide = gpu.array(np.zeros(10))
    half = Half(gpu, np.zeros(10, np.uint16), "float16", 0)
    for wrong, error, message in [
        ((p, g, wide), TypeError, "vel has dtype float64 and params float32; float32 is needed"),
        ((half, half, v), ValueError, "params and grads overlap"),
        ((half, g, v), TypeError, "grads has dtype float32 and params float16; float16 is needed"),
        ((p, g, p), ValueError, "params and vel overlap"),
        (([p], [g], v), TypeError, r"step: params is a list of 1 and vel is a .*fake_driver.Array"),
        (([p, half], [g, half], [v, v]), TypeError, r"params\[1\] has dtype float16 and params\[0\] float32"),
        ((p, np.zeros(10, np.float32), v), ValueError, "params and vel live on a CUDA device and grads on the host"),
    ]:
        with pytest.raises(error, match=message):
            step(*wrong)
    with pytest.raises(ValueError, match="master is for parameters of half precision"):
        step(p, g, v, master=gpu.array(np.zeros(10, np.float32)))
    with pytest.raises(ValueError, match="different devices"):
        step(p, g, gpu.array(np.zeros(10, np.float32), device=1))
    immutable = type("Array", (fake_driver.Array,), {"__module__": "jaxlib._jax"})(p.pointer, 0)
    with pytest.raises(ValueError, match="params is read-only"):
        step(immutable, g, v)
    assert not gpu.launches
