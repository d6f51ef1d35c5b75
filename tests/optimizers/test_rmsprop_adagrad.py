"""RMSProp and Adagrad: PyTorch's bits."""

import numpy as np
import pytest
from numba import njit

from nagd_numba import adagrad_step, rmsprop_step
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits
from tests.helpers.torch_roots import rounded

STEPS = 5 if JIT_OFF else 60
N = 20 if JIT_OFF else 1003
LR = 0.01

CASES = {
    "rmsprop": ("RMSprop", rmsprop_step, {}, {}),
    "rmsprop-penalty": ("RMSprop", rmsprop_step, {"weight_decay": 0.1, "alpha": 0.9}, {}),
    "rmsprop-maximize": ("RMSprop", rmsprop_step, {"maximize": True, "eps": 1e-3, "alpha": 0.0}, {}),
    "adagrad": ("Adagrad", adagrad_step, {}, {}),
    "adagrad-decays": ("Adagrad", adagrad_step, {"weight_decay": 0.1, "lr_decay": 0.3}, {"maximize": True}),
    "adagrad-start": ("Adagrad", adagrad_step, {"eps": 1e-3}, {"initial_accumulator_value": 0.5}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("foreach", [False, True], ids=["single", "foreach"])
@pytest.mark.parametrize("case", CASES)
def test_torch(dtype, foreach, case):
    """The state to the last bit.  The parameters too, wherever PyTorch's square root is the rounded one."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    kind, step, common, theirs = CASES[case]
    ours = dict(common)
    if "maximize" in theirs:
        ours["maximize"] = True
    rng = np.random.default_rng(0)
    parameter = torch.nn.Parameter(torch.from_numpy(rng.normal(size=N).astype(dtype)))
    optimizer = getattr(torch.optim, kind)([parameter], LR, foreach=foreach, **common, **theirs)
    v = np.full(N, theirs.get("initial_accumulator_value", 0.0), dtype)
    eps, scale = np.finfo(dtype).eps, np.exp(rng.normal(size=N))
    for t in range(1, STEPS + 1):
        g = (rng.normal(size=N) * scale).astype(dtype)
        before = parameter.detach().numpy().copy()
        parameter.grad = torch.from_numpy(g.copy())
        optimizer.step()
        p = before.copy()
        step(p, g, v, LR, **ours, **({"t": t} if kind == "Adagrad" else {}))
        state, after = optimizer.state[parameter], parameter.detach().numpy()
        assert_same_bits([v], [state["square_avg" if kind == "RMSprop" else "sum"].numpy()])
        same = rounded(v)
        assert_same_bits([p[same]], [after[same]])
        # The neighbour of the root, and the roundings after it, put the quotients 4 u apart; then a sum is rounded.
        bound = 4 * eps * np.abs(after - before) + 2 * eps * np.maximum(np.abs(p), np.abs(after))
        assert (np.abs(p - after) <= bound)[~same].all()


@pytest.mark.skipif(JIT_OFF, reason="is about compiled callers")
def test_the_number_of_the_step_can_be_left_out_in_compiled_code():
    @njit
    def user(p, g, v):
        adagrad_step(p, g, v)

    p, g, v = np.random.default_rng(0).uniform(size=(3, 20))
    want = p.copy(), v.copy()
    adagrad_step(want[0], g, want[1])
    user(p, g, v)
    assert_same_bits((p, v), want)
