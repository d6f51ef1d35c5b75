"""With the inputs of PyTorch's own tests of optimizers: `OptimizerInfo`, which ships with it."""

import copy

import pytest

pytest.importorskip("torch", "2.5", reason="torch >= 2.5 is not installed")
pytest.importorskip("expecttest", reason="expecttest is not installed, which PyTorch's tests need")

import torch

from tests.helpers.torch_infos import INFOS, OptimizerErrorEnum
from tests.helpers.torch_networks import assert_same_tensors

infos = pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
CPU = torch.device("cpu")


def inputs(info):
    made = info.optim_inputs_func(device=CPU)
    assert len(made) >= 4
    return [x.kwargs for x in made]


def problem(apart):
    torch.manual_seed(0)
    if apart:
        weight, bias = torch.randn(10, 5, 2)[..., 0], torch.randn(10, 2)[..., 0]
    else:
        weight, bias = torch.randn(10, 5), torch.randn(10)
    params, x = [torch.nn.Parameter(weight), torch.nn.Parameter(bias)], torch.randn(5)
    assert params[1].is_contiguous() != apart

    def loss():
        return (params[0].mv(x) + params[1]).pow(2).sum()

    return params, loss


@pytest.mark.parametrize(
    "apart", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["contiguous", "elements apart"]
)
@infos
def test_right_direction_with_schedulers(info, apart):
    for kwargs in inputs(info):
        for schedulers in [(), *info.scheduler_inputs]:
            params, loss = problem(apart)
            optimizer = info.optim_cls(params, **kwargs)
            made = [scheduler(optimizer) for scheduler in schedulers]
            start = loss().item()
            for _ in range(20):
                optimizer.zero_grad()
                loss().backward()
                optimizer.step()
                for scheduler in made:
                    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
                    scheduler.step(*([loss().item()] if plateau else []))
            assert (loss().item() > start) == kwargs.get("maximize", False), kwargs


@infos
def test_errors(info):
    inputs = info.optim_error_inputs_func(CPU, torch.float32)
    assert len(inputs) >= 6
    for x in inputs:
        given = x.optimizer_error_input
        assert x.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
        expected = pytest.warns if issubclass(x.error_type, Warning) else pytest.raises
        with expected(x.error_type, match=x.error_regex):
            info.optim_cls(given.params, **given.kwargs)


@pytest.mark.ci
@infos
def test_saved_in_the_middle(info, tmp_path):
    """The rest of a course after `torch.save` and `torch.load(weights_only=True)`, to the last bit."""
    for kwargs in inputs(info):
        params, loss = problem(False)
        optimizer = info.optim_cls(params, **kwargs)

        def step(optimizer, loss):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        for _ in range(3):
            step(optimizer, loss)
        torch.save(optimizer.state_dict(), tmp_path / "state")
        others, other_loss = problem(False)
        for p, q in zip(params, others, strict=True):
            q.data.copy_(p.data)
        other = info.optim_cls(others, **kwargs)
        other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
        for _ in range(3):
            step(optimizer, loss)
            step(other, other_loss)
        assert_same_tensors(params, others)


@pytest.mark.ci
@infos
def test_state_dicts_of_older_versions_lack_options(info):
    for kwargs in inputs(info):
        params, loss = problem(False)
        optimizer = info.optim_cls(params, **kwargs)
        loss().backward()
        optimizer.step()
        old = copy.deepcopy(optimizer.state_dict())
        for group in old["param_groups"]:
            for flag in info.not_og_supported_flags:
                group.pop(flag, None)
        optimizer.load_state_dict(old)
        optimizer.step()


@pytest.mark.ci
@infos
def test_complex_parameters_step_as_pairs(info):
    for kwargs in inputs(info):
        torch.manual_seed(0)
        whole = [torch.randn(10, 5, dtype=torch.complex64), torch.randn(10, 5)]
        pairs = [torch.view_as_real(whole[0]).clone(), whole[1].clone()]
        whole, pairs = ([torch.nn.Parameter(x) for x in xs] for xs in (whole, pairs))
        optimizers = info.optim_cls(whole, **kwargs), info.optim_cls(pairs, **kwargs)
        for _ in range(3):
            for p, q in zip(whole, pairs, strict=True):
                p.grad = torch.randn_like(p)
                q.grad = torch.view_as_real(p.grad).clone() if p.is_complex() else p.grad.clone()
            for optimizer in optimizers:
                optimizer.step()
        assert_same_tensors([torch.view_as_real(whole[0].detach()), whole[1]], pairs)
