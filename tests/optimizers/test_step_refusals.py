"""What `step` refuses, before any write."""

import numpy as np
import pytest

from nagd_numba import step
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.device_arrays import OnDevice

READ_ONLY = np.zeros(20, np.float32)
READ_ONLY.flags.writeable = False
BIG_ENDIAN = np.zeros(20, ">f4")
SELF_OVERLAPPING = np.lib.stride_tricks.as_strided(np.zeros(20, np.float32), (20,), (0,))


@pytest.mark.parametrize(
    ("position", "bad", "error", "message"),
    [
        (
            0,
            [1.0] * 20,
            TypeError,
            r"^step: params is a list .* and grads is a numpy\.ndarray\. .*np\.asarray\(params\)",
        ),
        (1, None, TypeError, r"grads is a NoneType; an array is needed"),
        (2, 1.0, TypeError, r"vel is a float; an array is needed"),
        (0, np.zeros(20, np.int64), TypeError, r"params has dtype int64; float32 or float64 .* is needed"),
        (1, np.zeros(20, np.complex64), TypeError, r"grads has dtype complex64"),
        (2, np.zeros(20, object), TypeError, r"vel has dtype object"),
        (1, np.zeros(20, np.float16), TypeError, r"grads has dtype float16"),
        (1, np.zeros(20, np.float64), TypeError, r"grads has dtype float64 and params float32; one dtype .*astype"),
        (0, BIG_ENDIAN, TypeError, r"params has dtype >f4; .*native byte order"),
        (1, np.zeros(19, np.float32), ValueError, r"grads has shape \(19,\) and params \(20,\)"),
        (2, np.zeros((20, 1), np.float32), ValueError, r"vel has shape \(20, 1\) and params \(20,\)"),
        (0, READ_ONLY, ValueError, r"params is read-only and would be updated in place; pass params\.copy\(\)"),
        (2, READ_ONLY, ValueError, r"vel is read-only"),
        (0, SELF_OVERLAPPING, ValueError, r"elements of params share memory"),
        (0, np.ma.zeros(20, np.float32), TypeError, r"params is a masked array"),
    ],
)
def test_unfit_arrays(position, bad, error, message):
    given_arrays = [np.ones(20, np.float32) for _ in range(3)]
    step(*(x.copy() for x in given_arrays))  # the fast way exists, and must refuse too
    given_arrays[position] = bad
    before = [np.array(x, copy=True) for x in given_arrays]
    with pytest.raises(error, match=message):
        step(*given_arrays)
    for x, y in zip(given_arrays, before, strict=True):
        np.testing.assert_array_equal(np.asarray(x), y)


def test_overlap():
    buffer = np.ones(40, np.float32)
    p, g, v = buffer[:10], buffer[10:20], buffer[20:30]
    for wrong, message in [
        ((p, p, v), "params and grads are the same memory"),
        ((p, p[:], v), "params and grads overlap in memory"),
        ((p, g, p), "params and vel are the same memory"),
        ((p, g, g), "grads and vel are the same memory"),
        ((p, buffer[9:19], v), "params and grads overlap"),
        ((buffer[11:21], g, v), "params and grads overlap"),
        ((p[::-1], g, p), "params and vel overlap"),
        ((buffer[:20:2], buffer[20:40:2], buffer[18:38:2]), "params and vel overlap"),
    ]:
        with pytest.raises(ValueError, match=message):
            step(*wrong)
    assert (buffer == 1).all()


@pytest.mark.parametrize("name", ["lr", "momentum", "momentum_next", "weight_decay"])
@pytest.mark.parametrize("bad", [-1e-9, np.nan, np.inf, -np.inf, 1e300])
def test_hyper_parameters_out_of_range(name, bad):
    p, g, v = (np.ones(5, np.float32) for _ in range(3))
    step(p.copy(), g, v.copy())
    with pytest.raises(ValueError, match=rf"{name} is .*; a finite number >= 0 is needed \(in float32\)"):
        step(p, g, v, **{name: bad})
    assert (p == 1).all()
    assert (v == 1).all()


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"nesterov": 1.0}, None, None),
        ({"lr": "0.1"}, TypeError, "lr is '0.1'; a number is needed"),
        ({"lr": 10**400}, ValueError, "lr is inf; a finite number >= 0 is needed"),
        ({"lr": 1e200, "weight_decay": 1e200, "decoupled": True}, ValueError, "lr=.*weight_decay=.*leave the range"),
        ({"lr": "fast"}, TypeError, "lr is 'fast'; a number is needed"),
        ({"momentum": None}, TypeError, "momentum is None; a number is needed"),
        ({"lr": 1j}, TypeError, "lr is 1j; a number is needed"),
        ({"convention": "Torch"}, ValueError, "convention is 'Torch'; one of .* did you mean 'torch'"),
        ({"convention": 3}, ValueError, "convention is 3; one of"),
        ({"nesterov": "no"}, TypeError, "nesterov is 'no'; True or False is needed"),
        ({"maximize": 2}, TypeError, "maximize is 2; True or False is needed"),
        pytest.param(
            {"stream": 1},
            ValueError,
            r"^step: stream needs CUDA arrays; got host arrays\. Omit stream\.$",
            marks=pytest.mark.skipif(SIMULATOR, reason="the simulator's device arrays are on the host"),
        ),
    ],
)
def test_unfit_keywords(keywords, error, message):
    p, g, v = (np.ones(5) for _ in range(3))
    step(p.copy(), g, v.copy())
    if error is None:
        step(p, g, v, **keywords)
        return
    with pytest.raises(error, match=message):
        step(p, g, v, **keywords)
    assert (p == 1).all()


@pytest.mark.skipif(SIMULATOR, reason="the simulator has its own arrays")
def test_device_arrays_are_checked_before_the_driver_is_needed():
    far = [OnDevice(pointer=k << 20) for k in (1, 2, 3)]
    with pytest.raises(ValueError, match="params lives on a CUDA device and grads and vel on the host"):
        step(far[0], np.zeros(20, np.float32), np.zeros(20, np.float32))
    for changes, error, message in [
        ({"typestr": "<i4"}, TypeError, "grads has dtype int32"),
        ({"typestr": "<f8"}, TypeError, "grads has dtype float64 and params float32"),
        ({"strides": (8,)}, ValueError, "grads is strided"),
        ({"shape": (19,)}, ValueError, r"grads has shape \(19,\)"),
        ({"data": ((1 << 20) + 4, False)}, ValueError, "params and grads overlap in device memory"),
        ({"mask": object()}, TypeError, "grads has a mask"),
        ({"shape": (-20,)}, TypeError, r"unfit __cuda_array_interface__: the shape is \(-20,\)"),
        ({"shape": (2.5,)}, TypeError, "unfit __cuda_array_interface__"),
        ({"shape": None}, TypeError, "unfit __cuda_array_interface__"),
        ({"strides": (4, 4)}, TypeError, "the strides .* have different lengths"),
        ({"typestr": "number"}, TypeError, "unfit __cuda_array_interface__"),
        ({"data": None}, TypeError, "unfit __cuda_array_interface__"),
        ({"data": (0, False)}, TypeError, "80 bytes at address 0x0"),
        ({"data": ((1 << 20) + 2, False)}, TypeError, "elements of 4 bytes at address 0x100002"),
        ({"shape": (1 << 62,)}, TypeError, "where no such memory can be"),
    ]:
        with pytest.raises(error, match=message):
            step(far[0], OnDevice(pointer=2 << 20, **changes), far[2])
    with pytest.raises(ValueError, match="vel is read-only"):
        step(far[0], far[1], OnDevice(data=(3 << 20, True)))
    with pytest.raises(ValueError, match="lr is nan"):
        step(*far, lr=np.nan)


@pytest.mark.skipif(SIMULATOR, reason="the simulator has its own arrays")
def test_arrays_on_different_devices(monkeypatch):
    """What the driver says of pointers is made up: the check needs no device."""
    from nagd_numba.gpu.driver import Driver

    monkeypatch.setattr(Driver, "why_not", lambda self: None)
    monkeypatch.setattr(Driver, "device_of", lambda self, pointer: pointer >> 21)
    with pytest.raises(
        ValueError, match=r"different devices \(params on device 0, grads on device 1, vel on device 1\)"
    ):
        step(*(OnDevice(pointer=k << 20) for k in (1, 2, 3)))


@pytest.mark.skipif(SIMULATOR, reason="the simulator stands in for a device")
def test_no_device_is_said_plainly():
    from nagd_numba.gpu.driver import why_no_cuda

    if why_no_cuda() is None:
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(RuntimeError, match="CUDA is not available: "):
        step(*(OnDevice(pointer=k << 20) for k in (1, 2, 3)))
