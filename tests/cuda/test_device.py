"""On a real device: the same bits as the CPU, streams, and other libraries' arrays without a copy.

    python -m pytest tests/cuda tests/test_rules.py tests/test_nesterov.py tests/test_theory.py

runs everything that uses a device.  Elsewhere these are skipped, and say why.
"""

import numpy as np
import pytest

from nagd_numba import step
from nagd_numba.compile import SIMULATOR
from nagd_numba.gpu.driver import why_no_cuda
from nagd_numba.rules.nesterov import CONVENTIONS

pytestmark = [
    pytest.mark.skipif(SIMULATOR, reason="the CUDA simulator stands in for the device"),
    pytest.mark.skipif(why_no_cuda() is not None, reason=str(why_no_cuda())),
]


def arrays(n, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=n).astype(dtype) for _ in range(3)]


def same_as_host(p, g, v, device_p, device_v, steps=1, **keywords):
    for _ in range(steps):
        step(p, g, v, **keywords)
    np.testing.assert_array_equal(p.view(np.uint8), device_p.view(np.uint8))
    np.testing.assert_array_equal(v.view(np.uint8), device_v.view(np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("n", [0, 1, 255, 1000, 10_000_019])
def test_same_bits_as_the_host(dtype, convention, n):
    from numba import cuda

    p, g, v = arrays(n, dtype)
    dp, dg, dv = (cuda.to_device(x) for x in (p, g, v))
    keywords = {"lr": 0.1, "momentum": 0.9, "momentum_next": 0.8, "convention": convention, "weight_decay": 0.01}
    for _ in range(3):
        assert step(dp, dg, dv, **keywords) is dp
    same_as_host(p, g, v, dp.copy_to_host(), dv.copy_to_host(), steps=3, **keywords)


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_any_alignment(offset):
    from numba import cuda

    p, g, v = arrays(1003)
    dp, dg, dv = (cuda.to_device(x)[offset:] for x in (p, g, v))
    step(dp, dg, dv)
    same_as_host(p[offset:], g[offset:], v[offset:], dp.copy_to_host(), dv.copy_to_host())


def test_streams():
    from numba import cuda

    p, g, v = arrays(100_000)
    stream = cuda.stream()
    dp, dg, dv = (cuda.to_device(x, stream=stream) for x in (p, g, v))
    for _ in range(10):
        step(dp, dg, dv, stream=stream)
    got = dp.copy_to_host(stream=stream), dv.copy_to_host(stream=stream)
    stream.synchronize()
    same_as_host(p, g, v, *got, steps=10)
    with pytest.raises(TypeError, match="stream is 'fast'"):
        step(dp, dg, dv, stream="fast")


def test_cupy():
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    p, g, v = arrays((100, 33))
    dp, dg, dv = (cupy.asarray(x) for x in (p, g, v))
    stream = cupy.cuda.Stream()
    stream.wait_event(cupy.cuda.get_current_stream().record())
    pointer = dp.data.ptr
    assert step(dp, dg, dv, stream=stream) is dp
    stream.synchronize()
    assert dp.data.ptr == pointer
    same_as_host(p, g, v, cupy.asnumpy(dp), cupy.asnumpy(dv))
    with pytest.raises(ValueError, match="params is strided"):
        step(dp.T, dg.T, dv.T)


def test_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("torch is installed without CUDA")
    p, g, v = arrays(10_007)
    parameter = torch.nn.Parameter(torch.from_numpy(p).cuda())
    dg, dv = torch.from_numpy(g).cuda(), torch.from_numpy(v).cuda()
    loss = (parameter * parameter).sum()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    step(parameter, dg, dv, stream=stream)
    stream.synchronize()
    same_as_host(p, g, v, parameter.detach().cpu().numpy(), dv.cpu().numpy())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_errors_write_nothing():
    from numba import cuda

    p, g, v = arrays(100)
    dp, dg, dv = (cuda.to_device(x) for x in (p, g, v))
    for wrong, error, message in [
        ((dp, dp, dv), ValueError, "params and grads overlap in device memory"),
        ((dp, g, dv), ValueError, "params and vel live on a CUDA device and grads on the host"),
        ((dp, dg[:50], dv), ValueError, "grads has shape"),
        ((dp[::2], dg[::2], dv[::2]), ValueError, "params is strided"),
    ]:
        with pytest.raises(error, match=message):
            step(*wrong)
    with pytest.raises(ValueError, match="lr is -1"):
        step(dp, dg, dv, lr=-1)
    np.testing.assert_array_equal(dp.copy_to_host(), p)
