"""On a real device: the same bits as the CPU, streams, and other libraries' arrays without a copy.

    python -m pytest tests/cuda tests/optimizers

runs everything that uses a device.  Elsewhere these are skipped, and say why.
"""

import numpy as np
import pytest

from nagd_numba import MLP, fit_many, step
from nagd_numba.gpu.driver import why_no_cuda
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.optimizers.conventions import CONVENTIONS

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


def test_masks_bounds_averages_and_rates_of_elements():
    from numba import cuda

    from nagd_numba import Average

    n = 1_000_003
    p, g, v = arrays(n)
    rng = np.random.default_rng(1)
    own = {"lr": rng.random(n).astype(np.float32), "mask": rng.random(n) < 0.5, "lower": -rng.random(n, np.float32)}
    dp, dg, dv = (cuda.to_device(x) for x in (p, g, v))
    there = {name: cuda.to_device(x) for name, x in own.items()}
    averages = [Average(x, decay=0.9) for x in (p, dp)]
    for _ in range(3):
        step(dp, dg, dv, **there, prox="l1", prox_weight=0.1, average=averages[1])
    numbers = {"prox": "l1", "prox_weight": 0.1, "average": averages[0]}
    same_as_host(p, g, v, dp.copy_to_host(), dv.copy_to_host(), steps=3, **own, **numbers)
    for average, x in zip(averages, (p, dp), strict=True):
        average.swap(x)
    np.testing.assert_array_equal(p, dp.copy_to_host())
    np.testing.assert_array_equal(averages[0].value, averages[1].value.copy_to_host())


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


def test_lists():
    from numba import cuda

    host = [[arrays(n)[k] for n in (10, 100_003, 1)] for k in range(3)]
    device = [[cuda.to_device(x) for x in column] for column in host]
    for _ in range(3):
        step(*device)
        step(*host)
    for x, y in zip(host[0] + host[2], device[0] + device[2], strict=True):
        np.testing.assert_array_equal(x, y.copy_to_host())


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_of_torch(half):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("torch is installed without CUDA")
    dtype = getattr(torch, half)
    p, g, v = (torch.from_numpy(x) for x in arrays(1003))
    g = g.to(dtype)
    device_p, device_g, device_v, master = p.to(dtype).cuda(), g.cuda(), v.cuda(), p.cuda()
    for _ in range(3):
        step(device_p, device_g, device_v, master=master)
        step(p, g.to(torch.float32), v)
    assert torch.equal(master.cpu(), p)
    assert torch.equal(device_p.cpu(), p.to(dtype))


def test_a_captured_graph_of_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("torch is installed without CUDA")
    p, g, v = arrays(10_007)
    device = [torch.from_numpy(x.copy()).cuda() for x in (p, g, v)]
    step(*device)  # what is compiled and loaded cannot be while a graph is captured
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(3):
            step(*device)
    graph.replay()
    graph.replay()
    torch.cuda.synchronize()
    same_as_host(p, g, v, device[0].cpu().numpy(), device[2].cpu().numpy(), steps=7)


@pytest.mark.parametrize(
    ("sizes", "options", "keywords"),
    [
        ([64, 128, 10], {}, {}),
        ([64, 128, 10], {"dropout": 0.3, "l2": 0.01}, {"metrics": ["accuracy"]}),
        ([64, 1024, 10], {"activation": "tanh"}, {}),  # too large for one multiprocessor
        ([64, 128, 10], {}, {"clip": 0.5, "accumulate": 2}),
    ],
)
def test_training_gives_the_bits_of_the_host(sizes, options, keywords):
    from numba import cuda

    net = MLP(sizes, **options)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 64)).astype(np.float32), rng.integers(0, 10, 500)
    host = net.init(0)
    device = cuda.to_device(host)
    there = net.fit(device, cuda.to_device(X), cuda.to_device(y), epochs=3, **keywords)
    here = net.fit(host, X, y, epochs=3, **keywords)
    np.testing.assert_array_equal(device.copy_to_host(), host)
    for name, values in here.to_dict().items():
        np.testing.assert_array_equal(there.to_dict()[name], values, err_msg=name)
    loss, grads = net.value_and_grad(device, cuda.to_device(X[:33]), cuda.to_device(y[:33]))
    host_loss, host_grads = net.value_and_grad(host, X[:33], y[:33])
    assert loss == host_loss
    np.testing.assert_array_equal(grads.copy_to_host(), host_grads)
    np.testing.assert_array_equal(net.predict(device, cuda.to_device(X)).copy_to_host(), net.predict(host, X))


def test_many_networks_give_the_bits_of_the_host():
    from numba import cuda

    net = MLP([64, 32, 10])
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 64)).astype(np.float32), rng.integers(0, 10, 500)
    host = np.stack([net.init(seed) for seed in range(200)])
    device = cuda.to_device(host)
    fit_many(net, device, X, y, epochs=2, seed=range(200))
    fit_many(net, host, X, y, epochs=2, seed=range(200))
    np.testing.assert_array_equal(device.copy_to_host(), host)


def test_tensor_cores_are_within_the_bound_and_repeat_their_bits():
    """What the emulator cannot say: the order and the roundings of the hardware."""
    from numba import cuda

    n = 700
    rng = np.random.default_rng(0)
    net = MLP([n, 131], loss="mse", precision="tf32")
    for whole in (True, False):
        params, X = (rng.integers(-8, 9, s) if whole else rng.normal(size=s) for s in (net.size, (133, n)))
        params, X = params.astype(np.float32), X.astype(np.float32)
        on_device = cuda.to_device(params), cuda.to_device(X)
        z = net.forward(*on_device).copy_to_host()
        np.testing.assert_array_equal(net.forward(*on_device).copy_to_host(), z)
        W, b = (x.astype(np.float64) for x in (params[: n * 131].reshape(n, 131), params[n * 131 :]))
        error, size = abs(z - (X @ W + b)), abs(X) @ abs(W) + abs(b)
        additions = 128 + -(-n // 128) + 1
        if whole:
            assert not error.any()
        else:
            assert (error <= ((1 + 2.0**-11) ** 2 * (1 + 2.0**-23) ** additions - 1) * size).all()
            assert (error > ((1 + 2.0**-24) ** (additions + 1) - 1) * size).any()


def test_training_on_tensor_cores_reaches_the_loss_of_float32():
    from numba import cuda

    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 2000)
    X = (rng.normal(size=(2000, 64)) + 2 * np.eye(10, 64)[y]).astype(np.float32)
    keywords = {"epochs": 5, "batch_size": 256, "lr": 0.05}
    histories = []
    for precision in ("float32", "tf32", "tf32"):
        net = MLP([64, 1024, 10], precision=precision)
        params = cuda.to_device(net.init(0))
        histories.append((net.fit(params, X, y, **keywords).values("loss"), params.copy_to_host()))
    (exact, _), (loss, params), (again, params_again) = histories
    np.testing.assert_array_equal(params, params_again)
    np.testing.assert_array_equal(loss, again)
    np.testing.assert_allclose(loss, exact, rtol=2**-9)
    assert not np.array_equal(loss, exact)


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
