"""Solves through the real driver class, on streams that run as late as they may."""

import numpy as np
import pytest
from numba import cuda

from nagd_numba import minimize, minimize_many
from tests.helpers.objectives import line

TIMES = np.linspace(0.0, 3.0, 4)
SIGNALS = np.random.default_rng(0).normal(size=(3, 4))


# One function, and so one kernel, for all orders of the streams.
there = cuda.jit(device=True)(line.py_func)


def test_streams_and_device_functions_of_cuda(seed):
    expected = minimize_many(line, np.ones((3, 2)), (SIGNALS,), (TIMES,), "inplace")
    for stream in (0, cuda.stream()):
        X0, signals, times = (cuda.to_device(x, stream=stream) for x in (np.ones((3, 2)), SIGNALS, TIMES))
        found = minimize_many(there, X0, (signals,), (times,), "inplace")
        for name in ("x", "fun", "jac", "nit", "status", "success", "L"):
            np.testing.assert_array_equal(found[name].copy_to_host(), expected[name])


def test_a_kernel_is_no_function():
    with pytest.raises(TypeError, match=r"fun is a CUDA kernel; a device function is needed: @cuda.jit\(device=True\)"):
        minimize(cuda.jit(line.py_func), cuda.to_device(np.ones(2)), (cuda.to_device(SIGNALS[0]), 1.0), "inplace")
