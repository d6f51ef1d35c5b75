"""Loss scales and guards in the optimizers for PyTorch: `torch.amp.GradScaler`, `nagd_numba.Guard`."""

import math

import pytest

pytest.importorskip("torch", "2.5", reason="torch >= 2.5 is not installed")

import torch

import nagd_numba
from nagd_numba.adapters import torch as ours
from tests.helpers.torch_networks import assert_same_tensors, batches, made, parameters, with_gradients

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def sgd(params):
    return torch.optim.SGD(params, 0.05, 0.9, nesterov=True)


def nag(params, **options):
    return ours.NAG(params, lr=0.05, **options)


def scaled_course(make, unscaled=False, bad=(), scale=2.0**10, count=8, **options):
    """Parameters and scales of a training with a loss scale, whose gradients are infinite in some steps."""
    network = made("convolutional")
    optimizer = make(network.parameters(), **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    scales = []
    for k, (X, y) in enumerate(batches(count)):
        optimizer.zero_grad()
        scaler.scale(torch.nn.functional.cross_entropy(network(X), y)).backward()
        if k in bad:
            next(network.parameters()).grad.view(-1)[3] = math.inf
        if unscaled:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        before = [p.detach().clone() for p in network.parameters()]
        scaler.step(optimizer)
        if k in bad:
            assert_same_tensors(network.parameters(), before)
        scaler.update()
        scales.append(scaler.get_scale())
    return list(network.parameters()), scales, optimizer


@pytest.mark.parametrize("unscaled", [False, True], ids=["scaled", "unscaled and clipped"])
@pytest.mark.parametrize("bad", [(), (0, 4)], ids=str)
def test_scaler(unscaled, bad):
    (p, scales, mine), (q, expected, theirs) = (scaled_course(make, unscaled, bad) for make in (nag, sgd))
    assert scales == expected
    assert len(set(scales)) > 1
    assert_same_tensors(p, q)
    assert_same_tensors(*([o.state[x]["momentum_buffer"] for x in own] for o, own in ((mine, p), (theirs, q))))
    assert not hasattr(mine, "grad_scale")
    assert not hasattr(mine, "found_inf")


def test_scaler_counts_no_step_that_was_left_out():
    _, _, optimizer = scaled_course(lambda params: ours.Adam(params), bad=(1, 2))
    assert {float(own["step"]) for own in optimizer.state.values()} == {6.0}


def test_a_scale_that_is_no_power_of_two():
    """The division is rounded once more: in 5 steps the courses are apart by roundings of gradients only."""
    p, _, _ = scaled_course(nag, scale=1000.0, count=5)
    q, _, _ = scaled_course(sgd, scale=1000.0, count=5)
    torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_scaler_with_elements_apart_and_two_groups():
    made_ = []
    for make in (nag, sgd):
        torch.manual_seed(0)
        whole = torch.randn(6, 4, 2)
        p, q, r = (torch.nn.Parameter(x) for x in (whole[..., 0], torch.randn(5), torch.randn(3)))
        optimizer = make([{"params": [p, q]}, {"params": [r], "lr": 0.1}])
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(sum((x**2).sum() for x in (p, q, r))).backward()
            grads = [x.grad.clone() for x in (p, q, r)]
            scaler.step(optimizer)
            scaler.update()
            if make is nag:
                assert_same_tensors([x.grad for x in (p, q, r)], grads)  # the gradients stay as they are
        made_.append([p, q, r])
    assert_same_tensors(*made_)


def test_a_guard_and_a_scaler():
    """The guard's norm is of the gradients without the scale, and the guard keeps its own."""
    guard = nagd_numba.Guard(clip_norm=0.5)
    p, _, _ = scaled_course(nag, guard=guard)
    q, _, _ = scaled_course(sgd, unscaled=True)
    assert guard.grad_scale == 1.0
    assert 0 < guard.norm < 100
    # clip_grad_norm_ divides by the norm plus 1e-6 and rounds norms in float32: 1e-5 a step, of 8 steps
    torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-4)


def test_a_guard_in_the_place_of_a_scaler():
    """The same parameters and scales; the two of them together are refused."""
    bad = (0, 4)
    guard = nagd_numba.Guard(nonfinite="skip", grad_scale=2.0**10, growth_interval=3)
    network, scales = made("convolutional"), []
    optimizer = nag(network.parameters(), guard=guard)
    for k, (X, y) in enumerate(batches(8)):
        optimizer.zero_grad()
        (guard.grad_scale * torch.nn.functional.cross_entropy(network(X), y)).backward()
        if k in bad:
            next(network.parameters()).grad.view(-1)[3] = math.inf
        optimizer.step()
        assert guard.skipped == (k in bad)
        scales.append(guard.grad_scale)
    p, expected, _ = scaled_course(sgd, bad=bad)
    assert scales == expected
    assert_same_tensors(list(network.parameters()), p)
    with pytest.raises(ValueError, match="NAG: guard has a growth_interval, and GradScaler changes the loss scale"):
        scaled_course(lambda params: nag(params, guard=guard))


def test_a_guard_clips_as_torch_does():
    p, q = ([torch.nn.Parameter(torch.ones(n)) for n in (3, 5)] for _ in range(2))
    guard = nagd_numba.Guard(clip_norm=1.0, clip_value=0.3)
    mine, theirs = nag(p, guard=guard), sgd(q)
    for k in range(4):
        with_gradients(p, k)
        with_gradients(q, k)
        norm = torch.nn.utils.clip_grad_norm_(q, 1.0)
        torch.nn.utils.clip_grad_value_(q, 0.3)
        mine.step()
        theirs.step()
        assert guard.norm == pytest.approx(float(norm), rel=1e-6)
    # as above: 4 steps of at most 0.05 (1 + 0.9) 2 and 1e-6 of that each, and roundings
    torch.testing.assert_close(p, q, rtol=0, atol=4 * (0.2 * 2e-6 + 8 * torch.finfo(torch.float32).eps))


@pytest.mark.parametrize("policy", ["skip", "raise"])
def test_a_guard_against_infinite_gradients(policy):
    guard = nagd_numba.Guard(nonfinite=policy)
    p = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    optimizer = ours.Adam(p, guard=guard)
    with_gradients(p, 0)
    optimizer.step()
    before = [x.detach().clone() for x in p]
    p[1].grad[0] = math.nan
    if policy == "raise":
        with pytest.raises(FloatingPointError, match="1 of the gradients"):
            optimizer.step()
    else:
        optimizer.step()
    assert guard.skipped
    assert_same_tensors(p, before)
    assert {float(own["step"]) for own in optimizer.state.values()} == {1.0}
    with_gradients(p, 1)
    optimizer.step()
    assert not guard.skipped
    assert {float(own["step"]) for own in optimizer.state.values()} == {2.0}


@pytest.mark.parametrize("limit", [{"clip_norm": 1.0}, {"clip_value": 0.1}, {"nonfinite": "skip"}], ids=str)
def test_guards_that_cannot_see_all_gradients_are_refused(limit):
    apart = torch.nn.Parameter(torch.ones(3, 2)[:, 0])
    p, q = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    for groups, match in (
        (
            [{"params": [p]}, {"params": [apart]}],
            "guard is for parameters on the CPU whose elements lie close together",
        ),
        ([{"params": [p]}, {"params": [q]}], "guard sees to the gradients of one call"),
    ):
        optimizer = nag(groups, guard=nagd_numba.Guard(**limit))
        with_gradients(parameters(optimizer), 0)
        if match.startswith("guard sees") and "clip_value" in limit:  # of each element by itself
            optimizer.step()
            assert (p - 1).abs().max() <= 0.05 * 0.1 * 1.9 + torch.finfo(torch.float32).eps
            continue
        with pytest.raises(ValueError, match=f"^NAG: {match}"):
            optimizer.step()
        assert torch.equal(p, torch.ones(3))
        assert torch.equal(q, torch.ones(3))
