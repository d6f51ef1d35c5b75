"""The arrays of the tests of JAX's optimizers, and the library's own steps on them."""

import numpy as np
import pytest

import nagd_numba
from nagd_numba.optimizers.registry import OPTIMIZERS

STEPS = {x.name: x for x in OPTIMIZERS.values()}
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
DTYPES = [F32, pytest.param(F64, marks=pytest.mark.slow)]


def arrays_of(optimizer, n=1_001, dtype=F32, seed=0):
    """Parameters, gradients and states; averages of squares are not negative."""
    rng = np.random.default_rng(seed)
    made = {x: rng.normal(size=n).astype(dtype) for x in optimizer.arrays}
    if "v" in made:
        made["v"] = made["v"] ** 2
    return made


def needed(optimizer, t=3):
    return {"t": t} if "t" in optimizer.settings else {}


def in_place(optimizer, arrays, **settings):
    """What the library's own step makes: the written arrays."""
    copies = {x: a.copy() for x, a in arrays.items()}
    getattr(nagd_numba, optimizer.name)(**copies, **settings)
    return [a for x, a in copies.items() if x != "grads"]
