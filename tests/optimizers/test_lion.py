"""Lion: the bits of its formulas under NumPy."""

import numpy as np
import pytest

from nagd_numba import lion_step
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits

N, STEPS = (20, 5) if JIT_OFF else (1003, 60)


def formula(p, g, m, lr, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """Algorithm 2 of the paper, in the type of the arrays."""
    T = p.dtype.type
    update = np.sign(T(beta1) * m + T(1 - beta1) * g)
    return T(1 - lr * weight_decay) * p - T(lr) * update, T(beta2) * m + T(1 - beta2) * g


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("keywords", [{}, {"beta1": 0.95, "beta2": 0.98, "weight_decay": 0.1}, {"beta1": 0.0}])
def test_numpy(dtype, keywords):
    rng = np.random.default_rng(0)
    p, m = rng.normal(size=N).astype(dtype), np.zeros(N, dtype)
    p[:2] = -0.0, 0.0
    want, average = p, m
    p, m = p.copy(), m.copy()
    for _ in range(STEPS):
        g = rng.normal(size=N).astype(dtype)
        g[:4] = -0.0, 0.0, 1e-30, -1e-30  # the sign of a zero is 0
        want, average = formula(want, g, average, 0.01, **keywords)
        lion_step(p, g, m, 0.01, **keywords)
        assert_same_bits([p, m], [want, average])


def test_maximize_is_the_other_way():
    rng = np.random.default_rng(1)
    p, g, m = (rng.normal(size=N) for _ in range(3))
    up, down = p.copy(), p.copy()
    lion_step(up, g, m.copy(), maximize=True)
    lion_step(down, -g, m.copy())
    assert_same_bits([up], [down])


def test_a_gradient_that_is_no_number_stays_visible():
    p, m = np.ones(3), np.zeros(3)
    lion_step(p, np.array([np.nan, 1.0, -np.inf]), m, lr=0.5)
    np.testing.assert_array_equal(p, [np.nan, 0.5, 1.5])
    assert not np.isfinite(m[[0, 2]]).any()
