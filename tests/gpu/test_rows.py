"""Steps of rows on device arrays, in the emulator: the bits of the CPU, and what is refused."""

import numpy as np
import pytest

from nagd_numba import finish_rows, row_history, step_rows
from tests.helpers.bits import same_bits

pytestmark = pytest.mark.usefixtures("compiler")

DECAYED = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}


def matrices(dtype, rows=9, width=5):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, width)).astype(dtype), rng.normal(size=(rows, width)).astype(dtype)


def run(gpu, dtype, numbers, scheduled):
    """Some steps on both, with gaps from none to many steps."""
    p, v = matrices(dtype)
    last, history = np.zeros(9, np.int64), row_history(60) if scheduled else None
    host = [p, v, last, *([history] if scheduled else [])]
    device = [gpu.array(x) for x in host]
    rng = np.random.default_rng(1)
    none = np.empty(0, np.int64), np.empty((0, 5), dtype)
    for t in range(1, 51):
        few = t in (1, 2, 7, 40, 50)
        rows = np.sort(rng.choice(9, 3, replace=False)) if few else none[0]
        if not few and not scheduled:
            continue
        grads = rng.normal(size=(len(rows), 5)).astype(dtype)
        now = {**numbers, "lr": numbers["lr"] / t} if scheduled else numbers
        q, w, done, *of_device = device
        step_rows(p, rows, grads, v, last, t, history=history, **now)
        known = {"history": of_device[0]} if scheduled else {}
        step_rows(q, gpu.array(rows), gpu.array(grads), w, done, t, **known, **now)
    for rows in np.array([0, 5]), None:
        finish_rows(p, v, last, 50, history=history, rows=rows, **numbers)
        finish_rows(q, w, done, 50, rows=None if rows is None else gpu.array(rows), **known, **numbers)
    for x, y in zip(host, device, strict=True):
        assert same_bits(x, gpu.download(y))


@pytest.mark.parametrize(
    ("dtype", "numbers", "scheduled"),
    [
        (np.float32, {"lr": 0.1}, False),
        pytest.param(np.float32, DECAYED, True, marks=pytest.mark.ci),
        pytest.param(np.float64, DECAYED, False, marks=pytest.mark.ci),
        pytest.param(np.float64, {"lr": 0.1, "convention": "keras"}, True, marks=pytest.mark.ci),
    ],
)
def test_the_bits_of_the_cpu(gpu, dtype, numbers, scheduled):
    run(gpu, dtype, numbers, scheduled)


@pytest.mark.parametrize(
    ("rows", "last", "message"),
    [
        ([1, 9], None, r"rows\[1\] is 9; a row from 0 to 8 is needed"),
        ([-1, 2], None, r"rows\[0\] is -1; a row from 0 to 8"),
        ([2, 4, 4], None, r"rows\[2\] is 4, and the row before it no less; .*must ascend, as those of torch\.unique"),
        ([2, 1], None, r"rows\[1\] is 1, and the row before it no less"),
        ([2, 4], (4, 3), r"last\[4\] is 3, and this call takes rows that are done up to step 2 or before"),
        ([2, 4], (2, -1), r"last\[2\] is -1; a number >= 0 is needed"),
    ],
)
def test_unfit_rows_are_refused_before_any_write(gpu, rows, last, message):
    p, v = matrices(np.float32)
    done = np.zeros(9, np.int64)
    if last is not None:
        done[last[0]] = last[1]
    host = [p, np.array(rows), np.ones((len(rows), 5), np.float32), v, done]
    device = [gpu.array(x) for x in host]
    with pytest.raises(ValueError, match=f"^step_rows: {message}"):
        step_rows(*device, 3)
    for x, y in zip(host, device, strict=True):
        np.testing.assert_array_equal(x, gpu.download(y))


def test_unfit_arrays_and_histories(gpu):
    p, v = matrices(np.float32)
    host = [p, np.array([1, 2]), np.ones((2, 5), np.float32), v, np.zeros(9, np.int64)]
    device = [gpu.array(x) for x in host]
    with pytest.raises(TypeError, match=r"^step_rows: rows has dtype int32; int64 is needed on a CUDA device"):
        step_rows(device[0], gpu.array(np.array([1, 2], np.int32)), *device[2:], 1)
    with pytest.raises(TypeError, match=r"^step_rows: grads has dtype float64 and params float32"):
        step_rows(*device[:2], gpu.array(np.ones((2, 5))), *device[3:], 1)
    with pytest.raises(ValueError, match=r"^step_rows: vel has shape \(9, 4\) and params \(9, 5\)"):
        step_rows(*device[:3], gpu.array(v[:, :4].copy()), device[4], 1)
    with pytest.raises(ValueError, match=r"^step_rows: params and vel overlap in device memory"):
        step_rows(*device[:3], device[0], device[4], 1)
    history = gpu.array(row_history(4))
    with pytest.raises(ValueError, match=r"^step_rows: history ends with step 0, and step 1 is not written down"):
        step_rows(*device, 2, history=history)
    step_rows(*device, 1, history=history)
    with pytest.raises(ValueError, match=r"^step_rows: history has step t with other settings"):
        step_rows(*device[:4], gpu.array(host[4]), 1, lr=0.5, history=history)
    gpu.captured.add(0)
    with pytest.raises(
        ValueError, match=r"^step_rows: what the rows are is read back before a step, which no captured"
    ):
        step_rows(*device, 2)
