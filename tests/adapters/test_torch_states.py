"""States: exchanged with torch's class of the same rule in mid-training, saved, loaded, copied."""

import copy
import io
import pickle

import pytest

pytest.importorskip("torch", "2.5", reason="torch >= 2.5 is not installed")

import torch

import nagd_numba
from nagd_numba.adapters import torch as ours
from tests.helpers.torch_networks import (
    assert_same_tensors,
    batches,
    made,
    parameters,
    states,
    step,
    with_gradients,
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SGD = {"momentum": 0.9, "nesterov": True}
PEERS = {  # ours, options of ours, options of torch's
    "NAG": {},
    "Adam": {"weight_decay": 0.01},
    "AdamW": {"weight_decay": 0.1},
    "NAdam": {"weight_decay": 0.1, "decoupled_weight_decay": True},
    "RMSprop": {"alpha": 0.9},
    "Adagrad": {"lr_decay": 0.1},
}


def make(name, params, theirs):
    options = {"lr": 0.02} | PEERS[name]
    if not theirs:
        return getattr(ours, name)(params, **options)
    if name == "NAG":
        return torch.optim.SGD(params, **options, **SGD)
    return getattr(torch.optim, name)(params, **options)


def through_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("first", ["torch's first", "ours first"])
@pytest.mark.parametrize("network", ["convolutional", "recurrent"])
def test_sgd_in_mid_training(network, first):
    """10 steps of one, its state into the other, 10 more: the bits of 20 of torch's."""
    theirs_first = first == "torch's first"
    whole, halves = made(network), made(network)
    expected = make("NAG", whole.parameters(), True)
    one = make("NAG", halves.parameters(), theirs_first)
    for k, (X, y) in enumerate(batches(20)):
        step(whole, expected, X, y)
        if k == 10:
            other = make("NAG", halves.parameters(), not theirs_first)
            other.load_state_dict(through_file(one.state_dict()))
            one = other
        step(halves, one, X, y)
    assert_same_tensors(whole.parameters(), halves.parameters())
    assert_same_tensors(states(expected, "momentum_buffer"), states(one, "momentum_buffer"))


@pytest.mark.parametrize("first", ["torch's first", "ours first"])
@pytest.mark.parametrize("name", PEERS)
def test_every_rule_in_mid_training(name, first):
    """With given gradients states depend on these alone (but for a penalty), and are torch's to the last bit.

    Parameters differ by the roundings that `test_torch.py` bounds: 20 steps of 4 units of at most 0.1 each, and of 2
    roundings of parameters below 4.
    """
    theirs_first = first == "torch's first"
    torch.manual_seed(0)
    start = [torch.randn(3, 4), torch.randn(9), torch.randn(())]
    a, b = ([torch.nn.Parameter(x.clone()) for x in start] for _ in range(2))
    expected, one = make(name, a, True), make(name, b, theirs_first)
    for k in range(20):
        if k == 10:
            other = make(name, b, not theirs_first)
            other.load_state_dict(through_file(one.state_dict()))
            one = other
        for params in (a, b):
            with_gradients(params, k)
        expected.step()
        one.step()
    u = torch.finfo(torch.float32).eps
    torch.testing.assert_close(a, b, rtol=0, atol=20 * (4 * 0.1 + 2 * 4) * u)
    got, wanted = one.state_dict()["state"], expected.state_dict()["state"]
    for k in wanted:
        keys = {key for key, value in wanted[k].items() if value is not None}
        assert keys == set(got[k])
        for key in keys:
            x, y = torch.as_tensor(got[k][key]), torch.as_tensor(wanted[k][key])
            if name == "Adam" and key != "step":  # the penalty carries differences of parameters into the moments
                torch.testing.assert_close(x, y, rtol=0, atol=0.01 * 20 * (4 * 0.1 + 2 * 4) * u * 10)
            else:
                assert_same_tensors([x], [y])


def test_groups_of_a_state_keep_their_options():
    torch.manual_seed(0)
    p, q = torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.randn(3))
    theirs = torch.optim.SGD([{"params": [p], "lr": 0.5}, {"params": [q]}], 0.1, weight_decay=0.25, **SGD)
    with_gradients([p, q], 0)
    theirs.step()
    mine = ours.NAG([{"params": [p]}, {"params": [q]}])
    mine.load_state_dict(theirs.state_dict())
    assert [group["lr"] for group in mine.param_groups] == [0.5, 0.1]
    assert all(group["weight_decay"] == 0.25 and group["convention"] == "torch" for group in mine.param_groups)
    back = torch.optim.SGD([{"params": [p]}, {"params": [q]}], 0.1)
    back.load_state_dict(mine.state_dict())
    assert [group["lr"] for group in back.param_groups] == [0.5, 0.1]
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in back.param_groups)


@pytest.mark.parametrize(
    ("name", "theirs", "match"),
    [
        ("NAG", lambda p: torch.optim.SGD(p, 0.1, 0.9, dampening=0.5), "dampening is 0.5, which this rule has not"),
        (
            "Adam",
            lambda p: torch.optim.Adam(p, amsgrad=True),
            "amsgrad is True, .*; False is needed: use torch.optim.A",
        ),
        ("Adam", lambda p: torch.optim.AdamW(p), "decoupled_weight_decay is True"),
        ("NAdam", lambda p: torch.optim.NAdam(p, momentum_decay=0.1), "momentum_decay is 0.1"),
        ("RMSprop", lambda p: torch.optim.RMSprop(p, momentum=0.5), "momentum is 0.5"),
        ("RMSprop", lambda p: torch.optim.RMSprop(p, centered=True), "centered is True"),
    ],
)
def test_states_of_rules_that_ours_are_not(name, theirs, match):
    p = torch.nn.Parameter(torch.ones(3))
    other = theirs([p])
    if "decoupled_weight_decay" in match and "decoupled_weight_decay" not in other.defaults:
        pytest.skip("this torch does not say so in its states")
    p.grad = torch.ones(3)
    other.step()
    mine = getattr(ours, name)([p], lr=0.125)
    with pytest.raises(ValueError, match=f"^{name}: {match}"):
        mine.load_state_dict(other.state_dict())
    assert mine.param_groups[0]["lr"] == 0.125
    assert not mine.state


def course(optimizer, count=3, seed=0):
    for k in range(count):
        with_gradients(parameters(optimizer), seed + k)
        optimizer.step()


@pytest.mark.parametrize("name", [*PEERS, "Lion"])
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_copies(name, way):
    """A copy goes its own way, to the bits of the original's."""
    torch.manual_seed(0)
    guard = nagd_numba.Guard(clip_norm=1.0) if name == "Adam" else None
    optimizer = getattr(ours, name)(
        [torch.nn.Parameter(torch.randn(4)), torch.nn.Parameter(torch.randn(2, 3))], lr=0.1, guard=guard
    )
    course(optimizer)
    if way == "deepcopy":
        other = copy.deepcopy(optimizer)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(optimizer))
    else:
        file = io.BytesIO()
        torch.save(optimizer, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    assert type(other) is type(optimizer)
    assert name != "Adam" or (other.guard is not guard and other.guard.clip_norm == 1.0)
    before = [p.detach().clone() for p in parameters(optimizer)]
    course(other, seed=5)
    assert_same_tensors(parameters(optimizer), before)
    course(optimizer, seed=5)
    assert_same_tensors(parameters(optimizer), parameters(other))
    for key in optimizer.form.states:
        assert_same_tensors(states(optimizer, key), states(other, key))


def test_a_state_dict_does_not_count_on():
    """Inside, one tensor counts the steps of many parameters; in a state dict each has its own, as in PyTorch."""
    params = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    optimizer = ours.Adam(params)
    course(optimizer)
    kept = optimizer.state_dict()["state"]
    steps = [own["step"] for own in kept.values()]
    assert len({id(x) for x in steps}) == len({x.data_ptr() for x in steps}) == 3
    course(optimizer)
    assert [float(x) for x in steps] == [3.0] * 3
    assert all(x.dtype == torch.float32 and x.shape == () for x in steps)
    steps[0].fill_(100.0)
    course(optimizer, 1)
    assert [float(optimizer.state[p]["step"]) for p in params] == [7.0] * 3


def test_a_loaded_state_is_not_written_by_another_optimizer():
    """The step's tensor: as with torch, moments are shared until they are copied."""
    p, q = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    first, second = ours.Adam([p]), ours.Adam([q])
    course(first)
    second.load_state_dict(first.state_dict())
    course(second)
    assert (float(first.state[p]["step"]), float(second.state[q]["step"])) == (3.0, 6.0)


def test_the_product_of_nadams_momenta_follows_from_the_step():
    p, q = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    mine, theirs = ours.NAdam([p]), torch.optim.NAdam([q])
    for t in range(1, 12):
        course(mine, 1)
        course(theirs, 1)
        assert float(mine.state_dict()["state"][0]["mu_product"]) == float(theirs.state[q]["mu_product"]), t
    mine.load_state_dict(copy.deepcopy(theirs.state_dict()))
    assert set(mine.state[p]) == {"step", "exp_avg", "exp_avg_sq"}
    assert "mu_product" not in ours.NAdam([p], variant="optax").state_dict()["state"]


def test_states_as_older_versions_of_torch_saved_them():
    """A step that is a number, a momentum that is None, groups without the newer flags."""
    p = torch.nn.Parameter(torch.ones(2))
    adam = ours.Adam([p])
    course(adam)
    state = copy.deepcopy(adam.state_dict())
    state["state"][0]["step"] = 3
    adam.load_state_dict(state)
    course(adam, 1)
    assert float(adam.state[p]["step"]) == 4.0
    q = torch.nn.Parameter(torch.ones(2))
    old = torch.optim.SGD([q], 0.1)
    course(old)
    state = old.state_dict()
    state["state"] = {0: {"momentum_buffer": None}}
    for name in ("maximize", "foreach", "differentiable", "fused"):
        state["param_groups"][0].pop(name, None)
    mine = ours.NAG([p])
    mine.load_state_dict(state)
    course(mine, 1)
    assert mine.param_groups[0]["momentum"] == 0
    assert mine.param_groups[0]["maximize"] is False


def test_a_state_of_another_network_is_refused():
    p, q = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))
    first, second = ours.Adam([p]), ours.Adam([q])
    course(first)
    second.load_state_dict(first.state_dict())
    q.grad = torch.ones(3)
    with pytest.raises(ValueError, match=r"^Adam: the state exp_avg has shape \(2,\) .* load a state of the same netw"):
        second.step()
    assert torch.equal(q, torch.ones(3))


@pytest.mark.parametrize("layout", ["channels last", "elements apart"])
def test_states_of_another_layout(layout):
    """They are laid out anew where they must be, and hold the same."""
    torch.manual_seed(0)
    value = torch.randn(2, 3, 4, 4)
    p = torch.nn.Parameter(value.clone())
    first = ours.NAG([p])
    course(first)
    if layout == "channels last":
        moved = p.detach().clone(memory_format=torch.channels_last)
    else:
        moved = torch.stack([p.detach(), p.detach()], -1)[..., 0]
    q = torch.nn.Parameter(moved)
    second = ours.NAG([q])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer in (first, second):
        course(optimizer, 3, seed=7)
    assert_same_tensors([p, first.state[p]["momentum_buffer"]], [q, second.state[q]["momentum_buffer"]])


def test_states_beside_half_precision_are_not_rounded():
    """PyTorch makes all states of their parameters' type when they are loaded; these are float32 on a CUDA device."""
    p, q = torch.nn.Parameter(torch.full((3,), 0.1)), torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    first, second = ours.Adam([p]), ours.Adam([q])
    course(first)
    second.load_state_dict(first.state_dict())
    for key in ("exp_avg", "exp_avg_sq"):
        assert_same_tensors([second.state[q][key]], [first.state[p][key]])


def test_states_of_another_type_are_converted():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = ours.NAG([p], lr=0.5)
    course(optimizer)
    kept = optimizer.state[p]["momentum_buffer"].double()
    p.grad = None
    p.data = p.data.double()
    p.grad = torch.zeros(3, dtype=torch.float64)
    before = p.detach().clone()
    optimizer.step()
    assert optimizer.state[p]["momentum_buffer"].dtype == torch.float64
    torch.testing.assert_close(p.detach(), before - 0.5 * 0.81 * kept, rtol=4 * torch.finfo(torch.float64).eps, atol=0)
