"""Tensors of every kind of memory: what is stepped as torch's SGD steps it, and what is refused before any write."""

import weakref

import numpy as np
import pytest

pytest.importorskip("torch", "2.5", reason="torch >= 2.5 is not installed")

import torch
from torch.nn import Parameter

from nagd_numba.adapters import torch as ours
from nagd_numba.kernels import dlpack
from tests.helpers.backends import JIT_OFF
from tests.helpers.torch_networks import assert_same_tensors, with_gradients

STATE = "momentum_buffer"


@pytest.fixture(params=["compiled", "in Python"], autouse=True)
def examined(request, monkeypatch):
    """Tensors are looked at by compiled code, and in Python where PyTorch describes none to it."""
    if request.param == "in Python":
        monkeypatch.setattr(dlpack, "describer", lambda kind: None)
    elif JIT_OFF or dlpack.describer(torch.Tensor) is None:
        pytest.skip("this PyTorch has no exchange API of DLPack, or the JIT is off")


def nag(params, **options):
    return ours.NAG(params, lr=0.1, **options)


def sgd(params, **options):
    return torch.optim.SGD(params, 0.1, 0.9, nesterov=True, **options)


LAYOUTS = {
    "transposed": lambda: torch.randn(6, 5).t(),
    "columns": lambda: torch.randn(6, 5)[:, 1:3],
    "every second": lambda: torch.randn(10, 5, 2)[..., 0],
    "channels last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "permuted": lambda: torch.randn(2, 3, 4).permute(2, 0, 1),
    "scalar": lambda: torch.randn(()),
    "no elements": lambda: torch.randn(0, 3),
    "one channel": lambda: torch.randn(4, 1, 3, 3).to(memory_format=torch.channels_last),
    "an offset": lambda: torch.randn(11)[1:],
    "float64": lambda: torch.randn(4, 3, dtype=torch.float64),
}


GRADS = ("contiguous", "like the parameter", "transposed", "expanded", "negated")
USUAL = ("columns", "channels last", "no elements", "one channel")


@pytest.mark.parametrize(
    ("layout", "grads"),
    [
        pytest.param(layout, grads, marks=[] if layout in USUAL else pytest.mark.ci)
        for layout in LAYOUTS
        for grads in GRADS
    ],
)
def test_layouts(layout, grads):
    torch.manual_seed(0)
    start = LAYOUTS[layout]()
    others = torch.randn(7)  # which are in the same group
    a, b = ([Parameter(torch.empty_strided(start.shape, start.stride(), dtype=start.dtype).copy_(start))] for _ in "ab")
    for own in (a, b):
        own.append(Parameter(others.clone()))
        assert own[0].stride() == start.stride()
    optimizers = nag(a), sgd(b)
    for _ in range(3):
        g = torch.randn(start.shape, dtype=start.dtype)
        if grads == "like the parameter":
            g = torch.empty_strided(start.shape, start.stride(), dtype=g.dtype).copy_(g)
        elif grads == "transposed" and g.ndim > 1:
            g = g.transpose(0, 1).contiguous().transpose(0, 1)
        elif grads == "expanded":
            g = torch.ones((), dtype=g.dtype).expand(start.shape)
        elif grads == "negated":
            g = torch._neg_view(g)
        for own, optimizer in zip((a, b), optimizers, strict=True):
            own[0].grad, own[1].grad = g.clone() if grads == "contiguous" else g, torch.ones(7)
            optimizer.step()
    assert_same_tensors(a, b)
    assert_same_tensors(*([o.state[p][STATE] for p in own] for own, o in zip((a, b), optimizers, strict=True)))
    assert not torch.equal(a[0], start) or start.numel() == 0


def test_gradients_that_come_and_go():
    """Steps are counted by parameter, as PyTorch does: with Adam the corrections depend on them."""
    made = []
    for cls in (ours.Adam, torch.optim.Adam):
        torch.manual_seed(0)
        params = [Parameter(torch.randn(4)) for _ in range(3)]
        optimizer = cls(params, lr=0.1)
        optimizer.step()
        assert not optimizer.state
        for k in range(8):
            with_gradients(params, k)
            for j, p in enumerate(params):
                if (k >> j) & 1:
                    p.grad = None
            optimizer.step()
        made.append((params, [[own["exp_avg"], own["step"]] for own in map(optimizer.state.get, params)]))
    (p, ours_), (q, theirs) = made
    for a, b in zip(ours_, theirs, strict=True):
        assert_same_tensors(a, b)
    # 8 steps, each within 4 units of |step| <= 0.1 or so, and 2 roundings of parameters below 4
    torch.testing.assert_close(p, q, rtol=0, atol=8 * (4 * 0.2 + 4) * torch.finfo(torch.float32).eps)
    assert [float(own[1]) for own in ours_] == [4.0, 4.0, 4.0]


def test_steps_that_differ_are_counted_apart():
    p, q = Parameter(torch.ones(3)), Parameter(torch.ones(3))
    optimizer = ours.Adam([p, q])
    for k in range(5):
        with_gradients([p], k)
        q.grad = torch.ones(3) if k > 2 else None
        optimizer.step()
    assert [float(optimizer.state[x]["step"]) for x in (p, q)] == [5.0, 2.0]


def test_two_parameters_on_one_memory_are_stepped_one_after_the_other():
    made = []
    for make in (nag, sgd):
        torch.manual_seed(0)
        p = Parameter(torch.randn(6))
        params = [p, Parameter(p.data), Parameter(p.data[2:5])]
        optimizer = make(params)
        for k in range(3):
            with_gradients(params, k)
            optimizer.step()
        made.append((params, [optimizer.state[x][STATE] for x in params]))
        if make is nag:  # one call would step them at the same time, on several threads
            assert len(optimizer._plans[0].calls) == 3
    for ours_, theirs in zip(*made, strict=True):
        assert_same_tensors(ours_, theirs)


def test_tied_parameters_are_one():
    made = []
    for make in (nag, sgd):
        torch.manual_seed(0)
        embedding, head = torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7, bias=False)
        head.weight = embedding.weight
        model = torch.nn.Sequential(embedding, head)
        optimizer = make(model.parameters())
        for k in range(3):
            optimizer.zero_grad()
            model(torch.tensor([k, 2])).pow(2).sum().backward()
            optimizer.step()
        made.append(list(model.parameters()))
    assert_same_tensors(*made)


def refused(params, error, match, **options):
    """A step that must raise, and leave everything as it was, with one parameter that does fit."""
    fit = Parameter(torch.ones(3))
    fit.grad = torch.ones(3)
    optimizer = nag([{"params": [fit]}, {"params": params}], **options)
    before = [p.detach().clone() for p in params if p.layout == torch.strided]
    with pytest.raises(error, match=match):
        optimizer.step()
    assert_same_tensors([fit, *(p.resolve_neg().resolve_conj() for p in params)], [torch.ones(3), *before])
    for own in optimizer.state.values():
        assert not own or not own[STATE].any()


def parameter(value, grad):
    p = Parameter(value)
    p.grad = grad
    return p


REFUSED = {
    "float16": (lambda: [parameter(torch.ones(3).half(), torch.ones(3).half())], TypeError, "is float16 on the CPU"),
    "bfloat16": (lambda: [parameter(torch.ones(3).bfloat16(), torch.ones(3).bfloat16())], TypeError, "is bfloat16 on"),
    "expanded": (lambda: [parameter(torch.ones(3).expand(2, 3), torch.ones(2, 3))], ValueError, "is an expanded"),
    "negated": (lambda: [parameter(torch._neg_view(torch.ones(3)), torch.ones(3))], ValueError, "expanded, negated"),
    "conjugated": (
        lambda: [parameter(torch.ones(3, dtype=torch.complex64).conj(), torch.ones(3, dtype=torch.complex64))],
        ValueError,
        "negated or conjugated",
    ),
    "on itself": (
        lambda: [parameter(torch.ones(9).as_strided((3, 3), (2, 1)), torch.ones(3, 3))],
        ValueError,
        "memory of its own",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_parameters_that_are_refused(kind):
    make, error, match = REFUSED[kind]
    refused(make(), error, f"^NAG: .*{match}")


def test_sparse_gradients_are_refused_by_name():
    table = torch.nn.Embedding(5, 3, sparse=True)
    table(torch.tensor([1, 2])).sum().backward()
    refused([table.weight], TypeError, "^NAG: the gradient of a parameter of shape .5, 3. is sparse .torch.sparse_coo.")


@pytest.mark.parametrize(
    "wrong", [torch.ones(4), torch.ones(3, 1), torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.int32)]
)
def test_gradients_of_another_kind(wrong):
    p = parameter(torch.ones(3), torch.ones(3))
    p.grad.data = wrong
    refused([p], TypeError, "^NAG: the gradient of a parameter is .*, and the parameter float32 of shape .3,")


@pytest.mark.parametrize("where", ["itself", "shifted", "of another group", "with its elements apart", "a state"])
def test_gradients_in_memory_that_is_written(where):
    whole = torch.arange(12.0)
    p = Parameter(whole[:4])
    params = [p]
    if where == "itself":
        p.grad = p.data
    elif where == "shifted":
        p.grad = whole[3:7]
    elif where == "of another group":
        q = Parameter(torch.ones(4))
        p.grad, q.grad = q.data, torch.ones(4)
        params.append(q)
    elif where == "with its elements apart":
        p = Parameter(torch.ones(4, 2)[:, 0])
        p.grad = p.data
        params = [p]
    else:
        optimizer = nag([p])
        p.grad = torch.ones(4)
        optimizer.step()
        p.grad = optimizer.state[p][STATE]
        before = p.detach().clone(), p.grad.clone()
        with pytest.raises(ValueError, match=r"^NAG: a gradient overlaps parameters or states"):
            optimizer.step()
        assert_same_tensors([p, p.grad], before)
        return
    refused(params, ValueError, "^NAG: a gradient overlaps parameters or states in memory")


@pytest.mark.parametrize("change", ["data", "copied data", "set", "resized", "to float64", "channels last"])
def test_parameters_that_move_between_steps(change):
    """`p.data` may be replaced at any time: what p is in the step is what counts, with the velocity it has."""
    made = []
    for make in (nag, sgd):
        torch.manual_seed(0)
        p, q = Parameter(torch.randn(2, 3, 4, 4)), Parameter(torch.randn(5))
        optimizer = make([p, q])
        for k in range(5):
            with_gradients([p, q], k)
            if k == 2:
                if change == "data":
                    p.data = torch.ones(2, 3, 4, 4)
                elif change == "copied data":
                    p.data = p.data.clone()
                elif change == "set":
                    with torch.no_grad():
                        p.set_(torch.full((2, 3, 4, 4), 2.0))
                elif change == "resized":
                    p.data, q.data = torch.ones(2, 3, 4, 4), torch.ones(5)
                elif change == "to float64":
                    p.grad = None
                    p.data = p.data.double()
                    p.grad = torch.ones(2, 3, 4, 4, dtype=torch.float64)
                    optimizer.state[p][STATE] = optimizer.state[p][STATE].double()
                else:
                    p.grad = None
                    p.data = p.data.to(memory_format=torch.channels_last)
                    p.grad = torch.ones(2, 3, 4, 4)
            elif change == "to float64" and k > 2:
                p.grad = p.grad.double()
            optimizer.step()
        made.append([p, q, optimizer.state[p][STATE]])
    assert_same_tensors(*made)


@pytest.mark.parametrize("change", ["replaced", "cleared", "popped", "key", "other shape"])
def test_states_that_change_between_steps(change):
    made = []
    for cls in (ours.Adam, torch.optim.Adam):
        torch.manual_seed(0)
        p, q = Parameter(torch.randn(5)), Parameter(torch.randn(5))
        optimizer = cls([p, q], lr=0.1)
        for k in range(5):
            with_gradients([p, q], k)
            if k == 2:
                if change == "replaced":
                    optimizer.state[p]["exp_avg"] = torch.full((5,), 0.5)
                    optimizer.state[q]["step"] = torch.tensor(10.0)
                elif change == "cleared":
                    optimizer.state.clear()
                elif change == "popped":
                    optimizer.state.pop(p)
                elif change == "key":
                    optimizer.state[q] = {key: x.clone() for key, x in optimizer.state[q].items()}
                elif cls is ours.Adam:
                    optimizer.state[p]["exp_avg"] = torch.ones(4)
                    before = p.detach().clone(), q.detach().clone()
                    with pytest.raises(ValueError, match=r"^Adam: the state exp_avg has shape"):
                        optimizer.step()
                    assert_same_tensors([p, q], before)
                    return
            optimizer.step()
        made.append([x for r in (p, q) for x in map(optimizer.state[r].get, ("exp_avg", "exp_avg_sq", "step"))])
    assert_same_tensors(*made)


def test_autograd_is_told_of_every_write():
    for cls in (ours.NAG, ours.Adam):
        p = Parameter(torch.ones(3))
        stale = (p**2).sum()
        p.grad = torch.ones(3)
        optimizer = cls([p])
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            stale.backward()
        versions = [x._version for x in (p, *optimizer.state[p].values())]
        optimizer.step()
        assert all(x._version > before for x, before in zip((p, *optimizer.state[p].values()), versions, strict=True))
        assert p.grad._version == 0


def test_tensors_of_inference_mode():
    with torch.inference_mode():
        p = Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        nag([p]).step()
    refused([p], ValueError, "was made in inference mode")


def test_nothing_is_kept_of_gradients():
    """Between steps an optimizer holds none, nor a copy that it had to make."""
    for value in (torch.ones(3, 4), torch.ones(3, 4, 2)[..., 0]):
        p = Parameter(value)
        optimizer = nag([p])
        for _ in range(2):
            p.grad = torch.ones(4, 3).t()
            gone = weakref.ref(p.grad)
            optimizer.step()
            p.grad = None
            assert gone() is None


def test_many_parameters_of_many_types():
    made = []
    for make in (nag, sgd):
        torch.manual_seed(0)
        params = [
            Parameter(torch.randn(n, dtype=(torch.float32, torch.float64)[n % 2])[:: 1 + n % 3]) for n in range(40)
        ]
        optimizer = make(params)
        for k in range(3):
            with_gradients(params[k:], k)
            optimizer.step()
        made.append(params)
    assert_same_tensors(*made)
    assert np.isfinite(sum(float(p.detach().sum()) for p in made[0]))
