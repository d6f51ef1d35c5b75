"""Bounds, proximal maps and averages as options of the optimizers for PyTorch."""

import contextlib
import copy
import io

import numpy as np
import pytest

pytest.importorskip("torch", "2.5", reason="torch >= 2.5 is not installed")

import torch
from numba import njit

import nagd_numba
from nagd_numba.adapters import torch as ours
from tests.helpers import rules
from tests.helpers.torch_networks import assert_same_tensors, batches, made, step, with_gradients

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CLASSES = ("NAG", "Adam", "AdamW", "NAdam", "Lion", "RMSprop", "Adagrad")
classes = pytest.mark.parametrize("name", rules.marked(default=("NAG",), ci=(), names=CLASSES))


@njit
def shrunk(x, lr):
    return np.sign(x) * max(abs(x) - lr, 0.0)


def tensors(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 7), (3,), (), (2, 3, 4)]
    made_ = [torch.nn.Parameter(torch.randn(x, generator=generator, dtype=dtype)) for x in shapes]
    made_[3] = torch.nn.Parameter(made_[3].detach().transpose(0, 2))
    apart = torch.randn(4, 6, generator=generator, dtype=dtype)[:, ::2]
    return [*made_, torch.nn.Parameter(apart)]


@classes
@pytest.mark.parametrize(
    "options",
    [
        {"lower": -0.25, "upper": 0.5, "average": 0.75, "average_start": 1},
        pytest.param({"prox": "l1", "prox_weight": 2.0}, marks=pytest.mark.ci),
        pytest.param({"prox": shrunk, "average": "mean"}, marks=pytest.mark.ci),
        pytest.param({"prox": "nonneg", "upper": 0.5}, marks=pytest.mark.slow),
        pytest.param({"prox": "scaled_l1", "prox_weight": 0.5}, marks=pytest.mark.slow),
    ],
    ids=lambda x: "-".join(x),
)
def test_bits_of_the_librarys_step(name, options):
    """On lists of arrays of NumPy, one by one."""
    optimizer_of = getattr(ours, name).form.optimizer
    if options.get("prox") == "scaled_l1" and optimizer_of.rule.scale is None:
        pytest.skip("the rule scales no element")
    params = tensors()
    arrays = [p.detach().numpy().copy() for p in params]
    kept = [[np.full_like(x, -0.0 if name == "NAG" else 0.0) for x in arrays] for _ in optimizer_of.rule.states]
    own = {x: y for x, y in options.items() if not x.startswith("average")}
    if "average" in options:
        decay = None if options["average"] == "mean" else options["average"]
        own["average"] = nagd_numba.Average(arrays, decay, options.get("average_start", 0))
    optimizer = getattr(ours, name)(params, lr=0.1, weight_decay=0.1, **options)
    for t in range(1, 5):
        with_gradients(params, t)
        grads = [p.grad.numpy().copy() for p in params]
        optimizer.step()
        counted = {"t": t} if "t" in optimizer_of.settings else {}
        optimizer_of.step(arrays, grads, *kept, lr=0.1, weight_decay=0.1, **counted, **own)
    assert_same_tensors(params, map(torch.from_numpy, arrays))
    for key, state in zip(getattr(ours, name).form.states, kept, strict=True):
        assert_same_tensors([optimizer.state[p][key] for p in params], map(torch.from_numpy, state))
    if "average" in options:
        before, averages = [p.detach().clone() for p in params], list(map(torch.from_numpy, own["average"].value))
        with optimizer.averaged():
            assert_same_tensors(params, averages)
        assert_same_tensors(params, before)


def test_groups_have_options_of_their_own():
    first, second, third = (torch.nn.Parameter(torch.zeros(3)) for _ in range(3))
    optimizer = ours.NAG(
        [{"params": [first], "upper": 0.25}, {"params": [second], "upper": 9.0}], lr=1.0, lower=-9.0, average="mean"
    )
    optimizer.add_param_group({"params": [third], "lower": -0.5, "upper": 9.0, "average": None, "prox": "box"})
    for p, g in ((first, -1.0), (second, -1.0), (third, 1.0)):
        p.grad = torch.full((3,), g)
    optimizer.step()
    assert [p[0].item() for p in (first, second, third)] == [0.25, pytest.approx(1.9), -0.5]
    assert "average" not in optimizer.state[third]
    optimizer.param_groups[0].update(upper=9.0)
    optimizer.param_groups[2].update(average="mean", lower=-5.0)  # from here on
    optimizer.step()
    assert first[0] > 1
    assert third[0] < -1
    assert_same_tensors([optimizer.state[third]["average"]], [third])
    optimizer.param_groups[1].update(average=None)
    kept = optimizer.state[second]["average"].clone()
    optimizer.step()
    assert_same_tensors([optimizer.state[second]["average"]], [kept])


@pytest.mark.parametrize("decay", [None, 0.9])
def test_averages_of_a_network_are_those_of_pytorch(decay):
    """`AveragedModel` rounds its weights otherwise: 12 steps of at most 4 roundings, of weights below 2."""
    network = made("convolutional")
    kept = (
        {} if decay is None else {"avg_fn": lambda a, p, k: a + (p - a) * nagd_numba.average_weight(int(k) + 1, decay)}
    )
    model = torch.optim.swa_utils.AveragedModel(network, **kept)
    optimizer = ours.NAG(network.parameters(), lr=0.05, average="mean" if decay is None else decay)
    for X, y in batches(12):
        step(network, optimizer, X, y)
        model.update_parameters(network)
    before = [p.detach().clone() for p in network.parameters()]
    averages = [p.detach() for p in model.module.parameters()]
    assert max((a - b).abs().max().item() for a, b in zip(averages, before, strict=True)) > 1e-3
    with optimizer.averaged():
        for p, a in zip(network.parameters(), averages, strict=True):
            torch.testing.assert_close(p.detach(), a, rtol=0, atol=12 * 4 * 2 * torch.finfo(torch.float32).eps)
    assert_same_tensors(network.parameters(), before)


def through_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("way", ["state", "copy"])
def test_saved_in_mid_training(way):
    """6 steps, a file, 6 more: the parameters and averages of 12."""
    whole, halves = made("recurrent"), made("recurrent")
    options = {"lr": 0.02, "average": 0.8, "average_start": 2, "lower": -0.2, "upper": 0.2}
    one, other = ours.Adam(whole.parameters(), **options), ours.Adam(halves.parameters(), **options)
    for k, (X, y) in enumerate(batches(12)):
        if k == 6 and way == "state":
            state = through_file(other.state_dict())
            other = ours.Adam(halves.parameters(), lr=0.5)
            other.load_state_dict(state)
        elif k == 6:
            halves, other = copy.deepcopy((halves, other))
        step(whole, one, X, y)
        step(halves, other, X, y)
    assert_same_tensors(whole.parameters(), halves.parameters())
    assert max(p.abs().max().item() for p in whole.parameters()) == pytest.approx(0.2)
    with one.averaged(), other.averaged():
        assert_same_tensors(whole.parameters(), halves.parameters())


def test_exchanged_with_pytorch():
    """PyTorch's class keeps the average in the state as it is, and loads what it does not know."""
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = ours.NAG([p], lr=0.1, average="mean", upper=2.0)
    with_gradients([p], 0)
    optimizer.step()
    theirs = torch.optim.SGD([p], lr=0.1, momentum=0.9, nesterov=True)
    theirs.load_state_dict(optimizer.state_dict())
    theirs.step()
    again = ours.NAG([p], lr=0.1)
    again.load_state_dict(theirs.state_dict())
    again.step()
    assert again.state[p]["averaged"] == 2
    plain = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    optimizer.load_state_dict(plain.state_dict())  # whose groups have no such options
    optimizer.step()
    assert optimizer.param_groups[0]["average"] == "mean"


def test_a_block_of_averages():
    p, tied = torch.nn.Parameter(torch.ones(4)), None
    tied = torch.nn.Parameter(p.detach())  # two parameters on one memory
    unseen = torch.nn.Parameter(torch.ones(2))
    optimizer = ours.NAG([p, tied, unseen], lr=0.1, average="mean")
    for k in range(3):
        with_gradients([p, tied], k)
        optimizer.step()
    before, kept = p.detach().clone(), [optimizer.state[x]["average"].clone() for x in (p, tied)]
    with contextlib.suppress(ZeroDivisionError), optimizer.averaged():
        assert_same_tensors([p, unseen], [kept[1], torch.ones(2)])
        for call in (optimizer.step, optimizer.state_dict, optimizer.averaged):
            with pytest.raises(RuntimeError, match="NAG: the parameters are their averages here"):
                call()
        raise ZeroDivisionError
    assert_same_tensors([p], [before])
    assert_same_tensors([optimizer.state[x]["average"] for x in (p, tied)], kept)
    y = (p * p).sum()
    with optimizer.averaged():
        pass
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
    optimizer.step()
    with pytest.raises(ValueError, match="Adam: no parameters have an average"):
        ours.Adam([p]).averaged()


def test_grad_scaler():
    """It divides the gradients itself then, and skips the step where they are not finite."""
    ends = []
    for scale in (1.0, 1024.0):
        p = torch.nn.Parameter(torch.linspace(-1, 1, 9))
        optimizer = ours.NAG([p], lr=0.25, upper=0.5, average="mean")
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
        for k in range(4):
            optimizer.zero_grad()
            scaler.scale((p**2).sum() / 2 + (torch.inf * p[0] if k == 2 else 0.0)).backward()
            scaler.step(optimizer)
            scaler.update(scale)
        assert optimizer.state[p]["averaged"] == 3
        ends.append(p.detach())
    assert_same_tensors(*([x] for x in ends))


def test_complex_averages():
    p = torch.nn.Parameter(torch.tensor([1 + 2j, 3 - 1j]))
    optimizer = ours.NAG([p], lr=0.5, momentum=0.0, average="mean")
    seen = []
    for k in range(2):
        p.grad = torch.tensor([1j, 1.0 + 0j]) * (k + 1)
        optimizer.step()
        seen.append(p.detach().clone())
    assert_same_tensors([optimizer.state[p]["average"]], [(seen[0] + seen[1]) / 2])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lower": 1.0, "upper": 0.0}, ValueError, "NAG: lower is 1.0, above upper, 0.0"),
        ({"lower": torch.zeros(3)}, TypeError, "lower is .*; a number for all parameters of the group"),
        ({"upper": float("nan")}, ValueError, "upper is nan"),
        ({"prox": "l2"}, ValueError, "prox is 'l2'"),
        ({"prox": "l1"}, ValueError, "prox_weight, the weight of the norm, is needed"),
        ({"prox": "l1", "prox_weight": -1.0}, ValueError, "prox_weight is -1.0"),
        ({"prox_weight": 1.0}, ValueError, "prox_weight is for"),
        ({"prox": "scaled_l1", "prox_weight": 1.0}, ValueError, "nesterov has no scale of elements"),
        ({"prox": abs}, TypeError, r"numba.njit\(prox\)"),
        ({"average": 1.0}, ValueError, "average is 1.0; 'mean' or a decay >= 0 and < 1"),
        ({"average": "ema"}, TypeError, "average is 'ema'; a number is needed"),
        ({"average_start": -1}, ValueError, "average_start is -1"),
        ({"lower": 0.0, "guard": nagd_numba.Guard()}, ValueError, "guard does not go with lower"),
    ],
    ids=lambda x: ", ".join(x) if isinstance(x, dict) else getattr(x, "__name__", None),
)
def test_unfit_options(options, error, message):
    p = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(error, match=message):
        ours.NAG([p], **options)
    if "guard" in options:
        return
    optimizer = ours.NAG([p], lr=1.0)
    with pytest.raises(error, match=message):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))], **options})
    optimizer.param_groups[0].update(options)
    p.grad = torch.ones(3)
    with pytest.raises(error, match=message):
        optimizer.step()
    assert_same_tensors([p], [torch.ones(3)])


def test_bounds_are_for_real_parameters():
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    p.grad = torch.ones_like(p)
    with pytest.raises(TypeError, match=r"are for real parameters, and one is torch\.complex64"):
        ours.NAG([p], upper=1.0).step()
    assert_same_tensors([p], [torch.ones(3, dtype=torch.complex64)])
