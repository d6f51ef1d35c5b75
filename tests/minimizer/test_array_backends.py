"""`minimize` on tensors of PyTorch, which stay tensors; on the CPU here, and on a device where there is one."""

import numpy as np
import pytest

from nagd_numba import minimize

torch = pytest.importorskip("torch")

SCALES = np.geomspace(1e-2, 1.0, 12)
TARGET = np.linspace(-1.0, 2.0, 12)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no device"))]


def host(x):
    return 0.5 * np.sum(SCALES * (x - TARGET) ** 2), SCALES * (x - TARGET)


def graph(x, scales, target):
    """The gradient by autograd."""
    x.requires_grad_()
    f = 0.5 * (scales * (x - target) ** 2).sum()
    f.backward()
    return f, x.grad


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"L": 1.0, "strong_convexity": 1e-2},
        {"options": {"monotone": True}},
        {"prox": "l1", "options": {"l1": 0.02}},
        {"prox": "box", "options": {"bounds": [(None, 0.5)] * 6 + [(1.0, None)] * 6}},
        {"prox": "nonneg", "restart": "function"},
    ],
    ids=str,
)
def test_the_path_is_that_on_the_host(device, options):
    """The sums of a device are taken in another order: equal to rounding."""
    args = [torch.as_tensor(a, device=device) for a in (SCALES, TARGET)]
    x0 = torch.zeros(12, dtype=torch.float64, device=device)
    theirs = minimize(graph, x0, tuple(args), True, maxiter=60, tol=1e-9, **options)
    ours = minimize(host, np.zeros(12), jac=True, maxiter=60, tol=1e-9, **options)
    assert (theirs.nit, theirs.status, theirs.restarts) == (ours.nit, ours.status, ours.restarts)
    np.testing.assert_allclose(theirs.x.cpu().numpy(), ours.x, rtol=0, atol=1e-12)
    assert theirs.fun == pytest.approx(ours.fun, rel=1e-12)
    assert theirs.x.device == theirs.jac.device == x0.device
    assert not theirs.x.requires_grad
    assert not x0.any()


@pytest.mark.parametrize("device", DEVICES)
def test_single_precision(device):
    args = tuple(torch.as_tensor(a, dtype=torch.float32, device=device) for a in (SCALES, TARGET))
    result = minimize(graph, torch.zeros(12, device=device), args, True, L=1.0, strong_convexity=1e-2, tol=1e-5)
    assert result.success
    assert result.x.dtype == torch.float32
    np.testing.assert_allclose(result.x.cpu().numpy(), TARGET, atol=2e-3)


def test_gradients_apart_and_a_prox_of_the_users():
    target = torch.as_tensor(TARGET)
    seen = []
    result = minimize(
        lambda x: ((x - target) ** 2).sum() / 2,
        torch.zeros(12, dtype=torch.float64),
        jac=lambda x: x - target,
        prox=lambda x, step: x.clip(max=1.0),
        callback=seen.append,
    )
    assert result.success
    assert len(seen) == result.nit
    assert all(isinstance(x, torch.Tensor) for x in seen)
    np.testing.assert_allclose(result.x, np.minimum(TARGET, 1.0), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"x0": torch.zeros(2, 2)}, ValueError, r"x0 has shape \(2, 2\)"),
        ({"x0": torch.zeros(2, dtype=torch.int64)}, TypeError, "x0 has dtype int64"),
        ({"x0": torch.tensor([1.0, torch.nan])}, ValueError, "not finite everywhere"),
        ({"jac": None}, TypeError, "jac is None; True, 'inplace' or a function is needed"),
        ({"jac": lambda x: x[:1]}, ValueError, r"jac returned a torch.Tensor of shape \(1,\)"),
        ({"jac": lambda x: x.numpy()}, ValueError, "jac returned a numpy.ndarray"),
        ({"fun": 1}, TypeError, "fun is an int"),
        ({"jac": True}, TypeError, "it must return"),
    ],
    ids=lambda x: "",
)
def test_what_is_refused(options, error, message):
    given = {"fun": lambda x: (x * x).sum(), "x0": torch.ones(2), "jac": lambda x: 2 * x, **options}
    with pytest.raises(error, match=message):
        minimize(**given)


def test_gradients_in_place():
    target = torch.as_tensor(TARGET)

    def fun(x, g, target):
        g[...] = x - target
        return ((x - target) ** 2).sum() / 2

    result = minimize(fun, torch.zeros(12, dtype=torch.float64), (target,), "inplace")
    apart = minimize(
        lambda x: ((x - target) ** 2).sum() / 2, torch.zeros(12, dtype=torch.float64), (), lambda x: x - target
    )
    assert result.success
    assert torch.equal(result.x, apart.x)


def test_not_finite():
    result = minimize(lambda x: (x.sum() * torch.nan, x), torch.ones(2), jac=True)
    assert (result.success, result.status) == (False, 5)
    assert result.x.tolist() == [1.0, 1.0]
