"""Steps with more than their rule, for every optimizer."""

import numpy as np
import pytest

from tests.helpers import rules
from tests.helpers.bits import assert_same_bits


def same(x, y):
    """The arrays have equal bits."""
    assert_same_bits([x], [y])


optimizers = rules.optimizers(ci=("adam", "fista"))
dtypes = pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.ci)])
# Where each compiles for long.
long_dtypes = pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])


def arrays_of(optimizer, rng, n, dtype):
    """Parameters, gradients and states as they are after some steps."""
    params, grads = rng.normal(size=n).astype(dtype), rng.normal(size=n).astype(dtype)
    states = [np.abs(rng.normal(size=n)).astype(dtype) for _ in optimizer.rule.states]
    return [params, grads, *states]


def numbers_of(optimizer):
    """Settings that make all terms count."""
    wanted = {"lr": 0.25, "weight_decay": 0.125, "weight": 0.25, "t": 3, "momentum": 0.75}
    return {x: wanted[x] for x in optimizer.settings if x in wanted}


def alone(optimizer, arrays, k, **numbers):
    """Element `k` stepped by itself: the new parameters and states."""
    own = [x[k : k + 1].copy() for x in arrays]
    optimizer.step(*own, **numbers)
    return [own[0], *own[2:]]


def rate_name(optimizer):
    """A hyper-parameter beside `lr` that may differ between elements."""
    return next((x for x in optimizer.rule.elementwise if x != "lr" and x in optimizer.settings), "lr")
