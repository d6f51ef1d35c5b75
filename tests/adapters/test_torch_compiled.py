"""The optimizers inside functions that `torch.compile` takes: the same bits, by a break between two graphs."""

import copy

import pytest

pytest.importorskip("torch", "2.5", reason="torch >= 2.5 is not installed")

import torch

from nagd_numba.adapters import torch as ours
from tests.helpers.torch_networks import assert_same_tensors, with_gradients

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def training(network, optimizer):
    def step(x):
        optimizer.zero_grad()
        loss = network(x).pow(2).sum()
        loss.backward()
        optimizer.step()
        return loss

    return step


# In the graph behind a break PyTorch's own tracer asks the loss for its `.grad`, also with the optimizers of
# `torch.optim`; it hides the warning where it is shown, and pytest makes it an error before that.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("name", ["NAG", "Adam"])
def test_a_compiled_training_step(name):
    torch.compiler.reset()
    torch.manual_seed(0)
    network = torch.nn.Linear(4, 4)
    other = copy.deepcopy(network)
    x = torch.randn(3, 4)
    cls = getattr(ours, name)
    step = torch.compile(training(network, cls(network.parameters(), lr=0.02)), backend="eager")
    plain = training(other, cls(other.parameters(), lr=0.02))
    losses = [(step(x).item(), plain(x).item()) for _ in range(4)]
    assert all(a == b for a, b in losses)
    assert losses[-1][0] < losses[0][0]
    assert_same_tensors(network.parameters(), other.parameters())


def test_the_compiled_method_and_what_changes_between_its_calls():
    torch.compiler.reset()
    p, q = torch.nn.Parameter(torch.ones(5)), torch.nn.Parameter(torch.ones(5))
    mine, plain = ours.NAG([p], lr=0.1), ours.NAG([q], lr=0.1)
    step = torch.compile(mine.step, backend="eager")
    for k in range(4):
        with_gradients([p], k)
        with_gradients([q], k)
        for optimizer in (mine, plain):
            optimizer.param_groups[0]["lr"] = 0.1 / (k + 1)
        step()
        plain.step()
        if k == 1:
            p.data, q.data = torch.zeros(5), torch.zeros(5)
    assert_same_tensors([p], [q])
    assert float(p.detach().abs().sum()) > 0
    p.grad = torch.ones(5)
    p.grad.data = torch.ones(4)
    with pytest.raises(TypeError, match=r"^NAG: the gradient of a parameter is"):
        step()
