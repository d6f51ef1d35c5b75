"""The network's CUDA kernels, compiled to machine code without a driver: they fit, and nothing spills."""

import pytest

import driverless
from nagd_numba.mlp.cuda import kernels


@pytest.fixture
def compiler():
    driverless.require()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("capability", driverless.CAPABILITIES, ids=lambda c: f"sm_{c[0]}{c[1]}")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("activation", "loss"), [("relu", "cross_entropy"), ("tanh", "mse"), ("sigmoid", "binary_cross_entropy")]
)
def test_kernels_fit_without_spills(activation, loss, dtype, capability, tmp_path):
    for name, (kernel, signature) in kernels(dtype, activation, loss, True, False).items():
        text = driverless.ptx(kernel.py_func, signature, capability)
        numbers = driverless.resources(text, capability, tmp_path)
        assert numbers["spill stores"] == numbers["spill loads"] == 0, name
        assert numbers["registers"] <= 128, name
