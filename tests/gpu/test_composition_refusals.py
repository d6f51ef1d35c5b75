"""What composed steps refuse on device arrays: with a message, before anything is launched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

import nagd_numba
from nagd_numba import bind, step
from nagd_numba.gpu import device_array
from tests.gpu.arrays import arrays, same

pytestmark = pytest.mark.usefixtures("compiler")


@njit
def makes_an_array(x, lr):
    return np.sort(np.array([x, lr]))[0]


def test_refusals(gpu):
    host = arrays(10)
    device = [gpu.array(x) for x in host]
    one, mask = gpu.array(np.ones(1, np.float32)), gpu.array(np.ones(10, np.bool_))
    lists, short, places = [[x] for x in device], gpu.array(np.ones(9, bool)), gpu.array(np.arange(3))
    for call, error, message in [
        (lambda: step(*device, mask=short), ValueError, r"mask has shape \(9,\) and params \(10,\)"),
        (lambda: step(*device, mask=places), TypeError, "mask has dtype int64; bool or uint8 .* places"),
        (lambda: step(*device, mask=np.ones(10, bool)), ValueError, "lives? on a CUDA device and mask on the host"),
        (lambda: step(*host, mask=mask), ValueError, "mask lives on a CUDA device"),
        (lambda: step(*lists, mask=mask), TypeError, "mask must be as params is"),
        (lambda: step(*device, lower=np.zeros(10, np.float32)), ValueError, "and lower on the host"),
        (lambda: step(*device, lower=one), ValueError, r"lower has shape \(1,\)"),
        (lambda: step(*device, lower=gpu.array(np.zeros(10))), TypeError, "lower has dtype float64"),
        (lambda: step(*device, lower=1.0, upper=0.0), ValueError, "lower is 1.0, above upper"),
        (lambda: step(*device, upper=device[0]), ValueError, "params and upper overlap"),
        (lambda: step(*device, lr=gpu.array(np.ones(9, np.float32))), ValueError, r"lr has shape \(9,\)"),
        (lambda: step(*device, lr=np.ones(10, np.float32)), ValueError, "and lr on the host"),
        (lambda: step(*device, lr=[gpu.array(host[0])]), TypeError, "lr is a list of 1; an array is needed"),
        (lambda: step(*device, momentum=gpu.array(host[0])), TypeError, "only lr and weight_decay may be arrays"),
        (lambda: step(*device, mask=mask, lr=-1.0), ValueError, r"lr is -1\.0"),
        (lambda: step(*device, mask=mask, guard=nagd_numba.Guard()), ValueError, "guard does not go with"),
        (lambda: step(*device, mask=mask, stream="fast"), TypeError, "stream is 'fast'"),
        (lambda: bind(step, *device, mask=mask, stream="fast"), TypeError, "bind: stream is 'fast'"),
        (lambda: bind(step, *device, mask=mask, lr=one), TypeError, "a bound step takes numbers"),
        (lambda: step(*device, average=nagd_numba.Average(host[0])), ValueError, "and average on the host"),
        (lambda: step(*device, groups={"W": {}}), TypeError, "groups needs params that are a FlatParams"),
        (lambda: step(*device, prox=abs), TypeError, r"numba.njit\(prox\), or cuda.jit\(prox, device=True\)"),
        (lambda: step(*device, prox=makes_an_array), TypeError, "prox cannot be compiled for a CUDA device"),
        (lambda: step(*device, mask=gpu.array(np.ones(10, bool), device=1)), ValueError, "different devices"),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            call()
    assert not gpu.launches
    same(gpu, host, device)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.booleans()), max_size=8))
def test_only_arrays_that_are_read_may_share_memory(places):
    memory = [
        (f"x{k}", device_array.DeviceMemory(start, (size,), None, "uint8", 1, False, None))
        for k, (start, size, _) in enumerate(places)
    ]
    shared = {f"x{k}" for k, (_, _, read) in enumerate(places) if read}
    overlap = any(
        x.pointer < y.end and y.pointer < x.end and min(x.size, y.size) > 0 and not {a, b} <= shared
        for k, (a, x) in enumerate(memory)
        for b, y in memory[:k]
    )
    if overlap:
        with pytest.raises(ValueError, match=r"x\d and x\d overlap in device memory"):
            device_array.no_overlap(memory, shared)
    else:
        device_array.no_overlap(memory, shared)
