"""What the tests of machine code need."""

import machine_code
import pytest

import driverless


@pytest.fixture
def compiler():
    """Skip, saying why, where kernels cannot be compiled, or their machine code cannot be read."""
    driverless.require()
    absent = machine_code.missing()
    if absent is not None:
        pytest.skip(absent)
