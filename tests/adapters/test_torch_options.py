"""Parameter groups, options and what changes them, closures and hooks of the optimizers for PyTorch."""

import copy
import math

import pytest

pytest.importorskip("torch", "2.5", reason="torch >= 2.5 is not installed")

import torch
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_pre_hook

import nagd_numba
from nagd_numba.adapters import torch as ours
from tests.helpers.torch_networks import assert_same_tensors, parameters, states, with_gradients

pytestmark = pytest.mark.usefixtures("one_torch_thread")

NAMES = [name for name in ours.__all__ if name != "Fused"]
NUMBERS = ("lr", "weight_decay", "eps", "betas", "momentum", "alpha", "lr_decay")


def tensors(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def pair(*shapes, **options):
    """Ours and torch's SGD on equal parameters."""
    options = {"lr": 0.05, "momentum": 0.9, "nesterov": True} | options
    return ours.NAG(tensors(*shapes), **options), torch.optim.SGD(tensors(*shapes), **options)


def both_step(a, b, count=1, seed=0, then=lambda optimizer: None):
    for k in range(count):
        for optimizer in (a, b):
            with_gradients(parameters(optimizer), seed + k)
            optimizer.step()
            then(optimizer)
    assert_same_tensors(parameters(a), parameters(b))


def test_groups_have_options_of_their_own():
    shapes = [(5,), (2, 3), (7,)]
    made = []
    for cls in (ours.NAG, torch.optim.SGD):
        x, y, z = tensors(*shapes)
        groups = [{"params": [x], "lr": 0.1}, {"params": [y, z], "weight_decay": 0.1, "momentum": 0.5}]
        made.append(cls(groups, lr=0.01, momentum=0.9, nesterov=True))
    both_step(*made, 4)


def test_a_group_that_is_added_between_steps():
    a, b = pair((5,), (2, 3))
    both_step(a, b, 3)
    for optimizer in (a, b):
        optimizer.add_param_group({"params": tensors((4,), seed=1), "lr": 0.2, "nesterov": False})
    both_step(a, b, 3, seed=10)


def test_a_group_that_does_not_fit_is_not_added():
    optimizer, _ = pair((5,))
    for wrong in ({"lr": -1.0}, {"momentum": math.nan}, {"nesterov": "yes"}, {"dampening": 0.5}):
        with pytest.raises((TypeError, ValueError), match=f"NAG: {next(iter(wrong))} is "):
            optimizer.add_param_group({"params": tensors((4,)), **wrong})
    assert len(optimizer.param_groups) == 1


def test_parameters_taken_out_of_a_group():
    a, b = pair((5,), (2, 3))
    both_step(a, b)
    for optimizer in (a, b):
        optimizer.param_groups[0]["params"].pop(0)
    both_step(a, b, 2, seed=5)


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, option) for name in NAMES for option in getattr(ours, name).form.options if option in NUMBERS],
)
def test_options_out_of_their_range_change_nothing(name, option):
    cls = getattr(ours, name)
    wrongs = [(0.9, 1.0), (math.nan, 0.9), (0.9,), 0.9] if option == "betas" else [math.nan, -0.1, math.inf, "0.1"]
    p, q = tensors((5,), (3,))
    with_gradients([p, q], 0)
    before = [p.detach().clone(), q.detach().clone()]
    for wrong in wrongs:
        with pytest.raises((TypeError, ValueError), match=f"^{name}: (beta|{option})"):
            cls([p], **{option: wrong})
        optimizer = cls([{"params": [p]}, {"params": [q]}])
        optimizer.param_groups[1][option] = wrong  # the first group must not be stepped
        with pytest.raises((TypeError, ValueError), match=f"^{name}: (beta|{option})"):
            optimizer.step()
        assert_same_tensors([p, q], before)
        assert not any("step" in own and own["step"] > 0 for own in optimizer.state.values())


def test_unknown_options_are_refused_by_name():
    with pytest.raises(TypeError, match=r"^NAG: got an unexpected keyword argument 'foreach'; the options are lr, mom"):
        ours.NAG(tensors((2,)), foreach=True)
    with pytest.raises(TypeError, match=r"^Adam: guard is an int"):
        ours.Adam(tensors((2,)), guard=1)
    with pytest.raises(ValueError, match="did you mean 'keras'"):
        ours.NAG(tensors((2,)), convention="kears")
    with pytest.raises(ValueError, match=r"^NAG: lr is a tensor of 2 elements"):
        ours.NAG(tensors((2,)), lr=torch.tensor([0.1, 0.2]))


SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=20, cycle_momentum=True),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=4),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda k: 1 / (1 + k)),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1), lr_scheduler.ExponentialLR(o, 0.9)], [4]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(name):
    a, b = pair((5,), (2, 3))
    schedulers = {id(x): SCHEDULERS[name](x) for x in (a, b)}
    rates = set()
    for k in range(12):
        both_step(a, b, seed=k)
        for optimizer in (a, b):
            schedulers[id(optimizer)].step()
        rates.add(a.param_groups[0]["lr"])
    assert len(rates) > 1
    if name in ("OneCycleLR", "CyclicLR"):
        assert a.param_groups[0]["momentum"] == b.param_groups[0]["momentum"] != 0.9


def test_one_cycle_turns_beta1_of_adam():
    p = tensors((5,))
    optimizer = ours.Adam(p)
    scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)
    assert optimizer.param_groups[0]["betas"] == (0.95, 0.999)
    q = p[0].detach().numpy().copy()
    m, v = q * 0, q * 0
    for t in range(1, 5):
        with_gradients(p, t)
        lr, (beta1, beta2) = optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"]
        optimizer.step()
        scheduler.step()
        nagd_numba.adam_step(q, p[0].grad.numpy(), m, v, t, lr, beta1, beta2)
    assert_same_tensors(p, [torch.from_numpy(q)])


@pytest.mark.parametrize("name", ["NAG", "Adam"])
def test_options_that_change_where_they_are(name):
    """A tensor as the learning rate, and lists or tensors as the betas: what they hold in each step is what counts."""
    cls = getattr(ours, name)
    p, q = tensors((5,)), tensors((5,))
    rate = torch.tensor(0.25)
    a, b = cls(p, lr=rate), cls(q, lr=0.25)
    if name == "Adam":
        a.param_groups[0]["betas"] = [0.5, 0.75]
    else:
        a.param_groups[0]["momentum"] = torch.tensor([0.5])
    for k, lr in enumerate((0.25, 0.125, 0.5)):
        rate.fill_(lr)
        b.param_groups[0]["lr"] = lr
        if name == "Adam":
            a.param_groups[0]["betas"][1] = 0.75 + k / 16
            b.param_groups[0]["betas"] = (0.5, 0.75 + k / 16)
        else:
            a.param_groups[0]["momentum"].fill_(0.5 + k / 16)
            b.param_groups[0]["momentum"] = 0.5 + k / 16
        both_step(a, b, seed=k)


def test_betas_that_are_tensors_in_a_tuple():
    p, q = tensors((5,)), tensors((5,))
    second = torch.tensor(0.75)
    a, b = ours.Adam(p, betas=(torch.tensor(0.5), second)), ours.Adam(q, betas=(0.5, 0.75))
    both_step(a, b)
    second.fill_(0.5)
    b.param_groups[0]["betas"] = (0.5, 0.5)
    both_step(a, b, seed=1)


def test_closures():
    a, b = pair((5,))

    def closure_of(optimizer):
        def closure():
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            loss = sum((p**2).sum() for p in parameters(optimizer))
            loss.backward()
            return loss

        return closure

    for _ in range(3):
        assert a.step(closure_of(a)) == b.step(closure_of(b))
    assert_same_tensors(parameters(a), parameters(b))
    assert a.step() is None
    with pytest.raises(ZeroDivisionError):  # of the closure's, as it is
        a.step(lambda: 1 / 0)


def test_hooks_before_and_after_a_step():
    optimizer, _ = pair((5,))
    seen = []
    (p,) = parameters(optimizer)
    optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("pre", p.detach().clone())))
    optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("post", p.detach().clone())))
    handle = register_optimizer_step_pre_hook(lambda o, *_: seen.append(("all", o)))
    try:
        start = p.detach().clone()
        with_gradients([p], 0)
        optimizer.step()
    finally:
        handle.remove()
    assert [name for name, _ in seen] == ["all", "pre", "post"]
    assert torch.equal(seen[1][1], start)
    assert torch.equal(seen[2][1], p)
    assert not torch.equal(p, start)


@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad_and_gradients_that_are_summed_up(to_none):
    a, b = pair((4,), (3, 2))
    for _ in range(4):
        for optimizer in (a, b):
            optimizer.zero_grad(set_to_none=to_none)
            for _ in range(2):  # two micro-batches
                sum((p**3).sum() for p in parameters(optimizer)).backward()
            optimizer.step()
    assert_same_tensors(parameters(a), parameters(b))


def test_added_to_the_registry_or_not_each_has_a_class():
    for name in NAMES:
        cls = getattr(ours, name)
        assert cls.__module__ == ours.__name__
        assert issubclass(cls, torch.optim.Optimizer)
        optimizer = cls(tensors((3,)), lr=0.01)
        with_gradients(parameters(optimizer), 0)
        optimizer.step()
        assert copy.deepcopy(optimizer).form is cls.form
        assert states(optimizer, cls.form.states[0])[0].any()
