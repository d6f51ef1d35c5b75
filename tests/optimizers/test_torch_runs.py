"""PyTorch's moments over many steps without a look at its parameters: equal bits, and what a penalty does to them."""

import numpy as np
import pytest

from nagd_numba import adagrad_step, adam_step, adamw_step, nadam_step, rmsprop_step
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits

STEPS, N = (5, 20) if JIT_OFF else (60, 4003)
LR = 0.01

# The step, PyTorch's optimizer, the names of its states.
OPTIMIZERS = {
    "adam": (adam_step, "Adam", ("exp_avg", "exp_avg_sq")),
    "adamw": (adamw_step, "AdamW", ("exp_avg", "exp_avg_sq")),
    "nadam": (nadam_step, "NAdam", ("exp_avg", "exp_avg_sq")),
    "rmsprop": (rmsprop_step, "RMSprop", ("square_avg",)),
    "adagrad": (adagrad_step, "Adagrad", ("sum",)),
}
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def runs(name, dtype, weight_decay, **theirs):
    """After each step our parameters and states, and PyTorch's, given the same gradients."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    step, kind, names = OPTIMIZERS[name]
    rng = np.random.default_rng(0)
    p = rng.normal(size=N).astype(dtype)
    states = [np.zeros(N, dtype) for _ in names]
    parameter = torch.nn.Parameter(torch.from_numpy(p.copy()))
    optimizer = getattr(torch.optim, kind)([parameter], LR, weight_decay=weight_decay, **theirs)
    ours = {"decoupled": True} if theirs else {}
    for t in range(1, STEPS + 1):
        g = rng.normal(size=N).astype(dtype)
        parameter.grad = torch.from_numpy(g.copy())
        optimizer.step()
        counted = {} if name == "rmsprop" else {"t": t}
        step(p, g, *states, lr=LR, weight_decay=weight_decay, **counted, **ours)
        yield p, states, parameter.detach().numpy(), [optimizer.state[parameter][x].numpy() for x in names]


@dtypes
@pytest.mark.parametrize(
    ("name", "weight_decay", "theirs"),
    [
        *((name, 0.0, {}) for name in OPTIMIZERS),
        ("adamw", 0.5, {}),
        ("nadam", 0.5, {"decoupled_weight_decay": True}),
    ],
)
def test_moments_that_do_not_depend_on_the_parameters(name, dtype, weight_decay, theirs):
    for _, ours, _, expected in runs(name, dtype, weight_decay, **theirs):
        assert_same_bits(ours, expected)


@dtypes
@pytest.mark.parametrize("name", ["adam", "nadam", "rmsprop", "adagrad"])
def test_a_penalty_carries_differences_of_the_parameters_into_the_moments(name, dtype):
    """No moment is another before its element's parameter is; the differences are those of a rounding."""
    apart = np.zeros(N, bool)
    for p, ours, theirs, expected in runs(name, dtype, 0.5):
        for x, y in zip(ours, expected, strict=True):
            assert_same_bits([x[~apart]], [y[~apart]])
            np.testing.assert_allclose(x, y, rtol=0, atol=1e3 * np.finfo(dtype).eps)
        apart |= p != theirs
    assert apart.mean() < 0.9
