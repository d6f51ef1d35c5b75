"""The optimizers for PyTorch beside those of `torch.optim`: equal bits, or differences of roundings."""

import numpy as np
import pytest

pytest.importorskip("torch", "2.5", reason="torch >= 2.5 is not installed")

import torch

import nagd_numba
from nagd_numba import schedule_free_eval, schedule_free_train
from nagd_numba.adapters import torch as ours
from tests.helpers.backends import JIT_OFF
from tests.helpers.torch_networks import assert_same_tensors, made, parameters, states, trained, with_gradients

pytestmark = pytest.mark.usefixtures("one_torch_thread")

STEPS = 10 if JIT_OFF else 100
ADAPTIVE = {  # ours, torch's, with what options
    "Adam": {},
    "AdamW": {"weight_decay": 0.1},
    "NAdam": {},
    "RMSprop": {"alpha": 0.9},
    "Adagrad": {"lr_decay": 0.1},
}
MOMENTS = {"RMSprop": ("square_avg",), "Adagrad": ("sum",)}


def sgd(params, **options):
    return torch.optim.SGD(params, 0.05, **{"momentum": 0.9, "nesterov": True} | options, foreach=True)


def nag(params, **options):
    return ours.NAG(params, lr=0.05, **options)


def assert_same_runs(a, b):
    """Two networks, optimizers and losses."""
    assert a[2] == b[2]
    assert_same_tensors(parameters(a[1]), parameters(b[1]))
    assert_same_tensors(states(a[1], "momentum_buffer"), states(b[1], "momentum_buffer"))


@pytest.mark.parametrize("network", ["convolutional", "recurrent"])
def test_networks_have_the_bits_of_torchs_sgd(network):
    start = made(network)
    a, b = trained(start, nag, STEPS), trained(start, sgd, STEPS)
    assert_same_runs(a, b)
    assert JIT_OFF or a[2][-1] < 0.75 * a[2][0]  # it does learn


@pytest.mark.ci
@pytest.mark.parametrize("network", ["convolutional", "recurrent"])
@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.01},
        {"nesterov": False},
        {"nesterov": False, "weight_decay": 0.01},
        {"maximize": True},
        {"dtype": torch.float64, "weight_decay": 0.01},
        {"dtype": torch.float64},
    ],
    ids=str,
)
def test_options_of_sgd(network, options):
    options = dict(options)
    dtype = options.pop("dtype", torch.float32)
    steps = 10 if options.get("maximize") else STEPS
    start = made(network, 1, dtype)
    a = trained(start, lambda p: nag(p, **options), steps, dtype=dtype)
    assert_same_runs(a, trained(start, lambda p: sgd(p, **options), steps, dtype=dtype))


def test_without_momentum_it_is_gradient_descent():
    start = made("convolutional")
    a, _, _ = trained(start, lambda p: nag(p, momentum=0.0), 20)
    b, _, _ = trained(start, lambda p: torch.optim.SGD(p, 0.05), 20)
    assert_same_tensors(a.parameters(), b.parameters())


def test_the_signs_of_zeros():
    """The first velocity is the gradient, as in PyTorch."""
    made_ = []
    for make in (nag, sgd):
        p = torch.nn.Parameter(torch.tensor([0.0, -0.0, 0.0, -0.0]))
        optimizer = make([p])
        p.grad = torch.tensor([0.0, 0.0, -0.0, -0.0])
        optimizer.step()
        made_.append([p, optimizer.state[p]["momentum_buffer"]])
    assert_same_tensors(*made_)


@pytest.mark.parametrize("convention", ["keras", "caffe", "bengio"])
def test_conventions_agree_at_constant_rates(convention):
    """Float64, 30 steps of at most 8 roundings each, of numbers below 4: the courses differ by those alone."""
    torch.manual_seed(0)
    start = torch.randn(300, dtype=torch.float64).clamp(-3, 3)
    ends = []
    for name in ("torch", convention):
        p = torch.nn.Parameter(start.clone())
        optimizer = ours.NAG([p], lr=0.05, convention=name)
        for _ in range(30):
            optimizer.zero_grad()
            (p**2 / 2).sum().backward()
            optimizer.step()
        ends.append(p.detach())
    assert not torch.equal(ends[0], start)
    torch.testing.assert_close(*ends, rtol=0, atol=30 * 8 * 4 * torch.finfo(torch.float64).eps)


@pytest.mark.parametrize(
    "name", ["NAG", "Adam", "AdamW", "NAdam", "Lion", "RMSprop", "Adagrad", "SGDScheduleFree", "AdamWScheduleFree"]
)
def test_bits_of_the_librarys_step(name):
    """On lists of arrays of NumPy, which have no tensors around them."""
    cls = getattr(ours, name)
    optimizer_of = cls.form.optimizer
    shapes = [(5, 7), (3,), (), (2, 3, 4)]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    zero = -0.0 if name == "NAG" else 0.0
    kept = [[np.full_like(x, zero) for x in arrays] for _ in optimizer_of.rule.states]
    params = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in arrays]
    optimizer = cls(params, lr=0.01, weight_decay=0.1)
    for t in range(1, 4):
        grads = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.from_numpy(g.copy()).reshape(p.shape)
        optimizer.step()
        counted = {"t": t} if "t" in optimizer_of.settings else {}
        optimizer_of.step(arrays, list(map(np.asarray, grads)), *kept, lr=0.01, weight_decay=0.1, **counted)
    assert_same_tensors(params, map(torch.from_numpy, arrays))
    for key, state in zip(cls.form.states, kept, strict=True):
        assert_same_tensors(states(optimizer, key), map(torch.from_numpy, state))


@pytest.mark.parametrize("name", ["SGDScheduleFree", "AdamWScheduleFree"])
def test_modes_of_schedule_free_optimizers(name):
    cls = getattr(ours, name)
    p = torch.nn.Parameter(torch.linspace(-1, 1, 30))
    optimizer = cls([p], lr=0.1)
    optimizer.eval()  # nothing was stepped: the points are the same
    optimizer.train()
    for _ in range(3):
        p.grad = p.detach().clone()
        optimizer.step()
    y, z = p.detach().numpy().copy(), optimizer.state[p]["z"].numpy()
    optimizer.eval()
    x = schedule_free_eval(y.copy(), z)
    assert_same_tensors([p], [torch.from_numpy(x)])
    optimizer.eval()  # they are that already
    assert_same_tensors([p], [torch.from_numpy(x)])
    with pytest.raises(RuntimeError, match="step after eval"):
        optimizer.step()
    other = cls([torch.nn.Parameter(p.detach().clone())], lr=0.1)
    other.load_state_dict(optimizer.state_dict())  # in the mode in which it was saved
    for one in (optimizer, other):
        one.train()
        (q,) = one.param_groups[0]["params"]
        assert_same_tensors([q], [torch.from_numpy(schedule_free_train(x.copy(), z))])


@pytest.mark.parametrize("momenta", [(0.5, 0.6), (0.9, 0.0)])
def test_two_momenta_as_in_the_step(momenta):
    p = torch.nn.Parameter(torch.linspace(-1, 1, 50))
    x, v = p.detach().numpy().copy(), np.full(50, -0.0, np.float32)
    optimizer = ours.NAG([p], lr=0.1, weight_decay=0.1, decoupled=True)
    for k in range(5):
        with_gradients([p], k)
        optimizer.param_groups[0].update(momentum=momenta[0], momentum_next=momenta[1])
        optimizer.step()
        nagd_numba.step(x, p.grad.numpy(), v, 0.1, *momenta, weight_decay=0.1, decoupled=True)
    assert_same_tensors([p], [torch.from_numpy(x)])


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.ci)], ids=str)
def test_adaptive_steps_from_torchs_parameters(name, dtype):
    """Moments to the last bit; parameters within `4 u |step|` and the two roundings of the sum, `u |p|`."""
    u = torch.finfo(dtype).eps
    torch.manual_seed(0)
    a = [torch.nn.Parameter(torch.randn(n, dtype=dtype)) for n in (1, 33, 1000)]
    b = [torch.nn.Parameter(p.detach().clone()) for p in a]
    options = {"lr": 0.01, "weight_decay": 0.01} | ADAPTIVE[name]
    ours_, theirs = getattr(ours, name)(a, **options), getattr(torch.optim, name)(b, **options, foreach=False)
    for k in range(STEPS):
        before = [p.detach().clone() for p in b]
        with_gradients(a, k)
        with_gradients(b, k)
        ours_.step()
        theirs.step()
        for key in MOMENTS.get(name, ("exp_avg", "exp_avg_sq")):
            assert_same_tensors(states(ours_, key), states(theirs, key))
        for p, q, start in zip(a, b, before, strict=True):
            # NAdam adds two steps, AdamW and it shrink before: twice the roundings
            bound = 2 * (4 * u * (q - start).abs() + u * torch.maximum(q.abs(), start.abs()))
            if name == "NAdam":  # whose two steps may be larger than their sum
                bound = bound + 8 * u * 0.1
            assert ((p - q).abs() <= bound).all()
            assert not torch.equal(q, start)
            with torch.no_grad():
                p.copy_(q)
    assert len(states(ours_, "step")) == 3
    assert all(float(t) == STEPS for t in states(ours_, "step"))


@pytest.mark.parametrize(("name", "peer"), [("NAG", sgd), ("Adam", torch.optim.Adam)])
@pytest.mark.parametrize("dtype", [torch.complex64, pytest.param(torch.complex128, marks=pytest.mark.ci)], ids=str)
def test_complex_parameters(name, peer, dtype):
    """Real and imaginary parts are stepped as real numbers; PyTorch rounds complex products otherwise.

    10 steps of at most 8 roundings of numbers below 4.
    """
    torch.manual_seed(0)
    start = torch.randn(40, dtype=dtype)
    p, q = (torch.nn.Parameter(start.clone()) for _ in range(2))
    r = torch.nn.Parameter(torch.view_as_real(start).clone())
    make = getattr(ours, name)
    optimizers = make([p], lr=0.05), peer([q], lr=0.05) if name != "NAG" else peer([q]), make([r], lr=0.05)
    for k in range(10):
        with_gradients([p], k)
        q.grad, r.grad = p.grad.clone(), torch.view_as_real(p.grad).clone()
        if k % 2:  # a view whose memory has the conjugate
            p.grad = p.grad.conj().resolve_conj().conj()
            assert p.grad.is_conj()
        for optimizer in optimizers:
            optimizer.step()
    assert_same_tensors([torch.view_as_real(p.detach())], [r])
    assert p.dtype == dtype
    torch.testing.assert_close(p, q, rtol=0, atol=10 * 8 * 4 * torch.finfo(dtype).eps)


def test_lion_against_its_definition():
    p = torch.nn.Parameter(torch.linspace(-1, 1, 64, dtype=torch.float64))
    x, m = p.detach().clone(), torch.zeros(64, dtype=torch.float64)
    optimizer = ours.Lion([p], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for k in range(5):
        with_gradients([p], k)
        optimizer.step()
        x = x * (1 - 0.01 * 0.1) - 0.01 * torch.sign(0.9 * m + 0.1 * p.grad)
        m = 0.99 * m + 0.01 * p.grad
    torch.testing.assert_close(p.detach(), x, rtol=0, atol=5 * 4 * 2 * torch.finfo(torch.float64).eps)
