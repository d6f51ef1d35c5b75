"""A scalar rule in a user's CUDA kernel, run in the emulator."""

import numpy as np
import pytest
from numba import types

import nagd_numba
from nagd_numba import nesterov_update
from tests import emulator
from tests.helpers import driverless

try:
    from numba import cuda
except ImportError:  # the test says that it is skipped
    cuda = None


def descend(p, g, v, n, constants):
    i = cuda.grid(1)
    if i < n:
        p[i], v[i] = nesterov_update(p[i], g[i], v[i], constants[0], constants[1], constants[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rule_has_the_bits_of_the_cpu(dtype):
    driverless.require()
    p, g, v = (np.random.default_rng(i).normal(size=1000).astype(dtype) for i in range(3))
    kind = getattr(types, dtype)
    with emulator.memory() as memory:
        pointer, there = types.CPointer(kind), [memory.array(x) for x in (p, g, v)]
        kernel = emulator.compile(descend, (pointer, pointer, pointer, types.int64, types.UniTuple(kind, 2)))
        for k in range(5):
            constants = ((0.01, 0.9),) if k else (0.01, 0.9)  # a tuple, or its elements
            kernel(8, 128, *there, 1000, *constants)
            nagd_numba.step(p, g, v, lr=0.01, momentum=0.9)
        assert (there[0].array == p).all()
        assert (there[2].array == v).all()
