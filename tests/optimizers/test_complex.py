"""Complex parameters: a step of their parts, the conjugation of the gradient, and what goes with it."""

import numpy as np
import pytest

import nagd_numba
from tests.helpers import rules
from tests.helpers.bits import assert_same_bits

kinds = pytest.mark.parametrize("dtype", [np.complex64, pytest.param(np.complex128, marks=pytest.mark.ci)])
optimizers = rules.optimizers(default=("nesterov", "adam"), ci=("schedule_free_sgd",))


def arrays_of(optimizer, dtype, shape=(6, 7)):
    rng = np.random.default_rng(0)
    made = [rng.normal(size=shape) + 1j * rng.normal(size=shape) for _ in range(2 + len(optimizer.rule.states))]
    p, g, *states = (x.astype(dtype) for x in made)
    return [p, g, *(abs(x.real) + 1j * abs(x.imag) for x in states)]  # squares are not negative


def settings_of(optimizer):
    return {x: y for x, y in {"lr": 0.25, "weight_decay": 0.125, "t": 3}.items() if x in optimizer.settings}


def parts(x):
    return np.stack([x.real, x.imag], axis=-1)


def same(arrays, real):
    assert_same_bits([parts(x) for x in arrays], real)


@kinds
@optimizers
def test_parts_are_stepped_as_real_numbers(optimizer, dtype):
    start, settings = arrays_of(optimizer, dtype), settings_of(optimizer)
    want = [parts(x) for x in start]
    optimizer.step(*want, **settings)
    written = [want[0], *want[2:]]
    for _ in range(2):
        own = [x.copy() for x in start]
        assert optimizer.step(*own, **settings) is own[0]
        same([own[0], *own[2:]], written)
    wide = [np.zeros((6, 14), dtype)[:, ::-2] for _ in start]
    for x, y in zip(wide, start, strict=True):
        x[...] = y
    optimizer.step(*wide, **settings)
    same([wide[0], *wide[2:]], written)
    lists = [[x[:2].copy(), x[2:].copy(), x[0].real.copy()] for x in start]  # and one that is real
    optimizer.step(*lists, **settings)
    same([np.concatenate(x[:2]) for x in (lists[0], *lists[2:])], written)
    bound = [x.copy() for x in start]
    take = nagd_numba.bind(optimizer.step, *bound, **settings)
    assert take() is bound[0]
    same([bound[0], *bound[2:]], written)


@kinds
def test_pytorch_gives_the_gradient_that_is_needed(dtype):
    """Nesterov's method and Adam with PyTorch's gradient of a real function: the parts have PyTorch's bits."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    start, target = ((rng.normal(size=40) + 1j * rng.normal(size=40)).astype(dtype) for _ in range(2))
    p, v = torch.from_numpy(start).requires_grad_(), torch.from_numpy(np.zeros(40, dtype))
    pairs = torch.nn.Parameter(torch.view_as_real(p.detach()).clone())
    peer = torch.optim.SGD([pairs], lr=0.1, momentum=0.9, nesterov=True)
    to = torch.from_numpy(target)
    for _ in range(60):
        ((p - to).abs() ** 2).sum().backward()
        np.testing.assert_allclose(p.grad.numpy(), 2 * (p - to).detach().numpy(), rtol=1e-4, atol=1e-6)
        pairs.grad = torch.view_as_real(p.grad).clone()
        peer.step()
        version = p._version
        nagd_numba.step(p, p.grad, v, lr=0.1, momentum=0.9)
        assert p._version > version  # autograd is told
        p.grad = None
        assert torch.equal(torch.view_as_real(p.detach()), pairs.detach())
    assert (p.detach() - to).abs().max() < 0.1


def test_what_goes_with_it():
    rng = np.random.default_rng(2)
    p, g = (rng.normal(size=9) + 1j * rng.normal(size=9) for _ in range(2))
    mask = np.arange(9) % 2 == 0
    lr = np.linspace(0, 0.5, 9)
    for own in ({"mask": mask}, {"mask": np.flatnonzero(mask)}, {"lr": lr}):
        q, v = p.copy(), np.zeros(9, complex)
        nagd_numba.step(q, g, v, **{"lr": 0.25, "momentum": 0.0, **own})
        rate = own.get("lr", np.where(mask, 0.25, 0.0))
        np.testing.assert_allclose(q, p - rate * g, rtol=1e-15)
        assert (q[rate == 0] == p[rate == 0]).all()
    q, v, average = p.copy(), np.zeros(9, complex), nagd_numba.Average(p)
    for _ in range(3):
        nagd_numba.step(q, g, v, lr=0.25, momentum=0.0, average=average)
    assert average.steps == 3
    np.testing.assert_allclose(average.value, p - 0.25 * 2 * g, rtol=1e-14)
    with average.swapped(q):
        np.testing.assert_allclose(q, p - 0.25 * 2 * g, rtol=1e-14)
    guard = nagd_numba.Guard(clip_norm=1.0)
    nagd_numba.step(q, g, v, guard=guard)
    assert guard.norm == pytest.approx(np.linalg.norm(g))
    flats = [nagd_numba.FlatParams([("a", (2, 2)), ("b", (5,))], flat=x) for x in (p.copy(), g, np.zeros(9, complex))]
    nagd_numba.step(*flats, lr=0.25, momentum=0.0, groups={"b": {"lr": 0.5}})
    np.testing.assert_allclose(flats[0]["b"], (p - 0.5 * g)[4:], rtol=1e-15)


def test_refusals():
    p, g, v = (np.ones(4, np.complex64) for _ in range(3))
    for changes, error, message in [
        ({"grads": g.real.copy()}, TypeError, "grads has dtype float32 and params complex64"),
        ({"vel": v.astype(complex)}, TypeError, "vel has dtype complex128 and params complex64"),
        ({"grads": g[1:]}, ValueError, r"grads has shape \(3,\) and params \(4,\)"),
        ({"grads": p}, ValueError, "params and grads overlap in memory"),
        ({"lower": 0.0}, ValueError, "lower does not go with complex params: complex numbers have no order"),
        ({"prox": "l1", "prox_weight": 1.0}, ValueError, "prox does not go with complex params"),
        ({"lr": -1.0}, ValueError, "lr is -1.0; a finite number >= 0 is needed"),
    ]:
        with pytest.raises(error, match=f"^step: {message}"):
            nagd_numba.step(**{"params": p, "grads": g, "vel": v, **changes})
    read_only = p.copy()
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="step: params is read-only"):
        nagd_numba.step(read_only, g, v)
    assert (p == 1).all()
    assert (v == 1).all()
