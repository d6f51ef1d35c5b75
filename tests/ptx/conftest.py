"""What the tests of machine code need."""

import pytest

from tests.helpers import driverless
from tests.ptx import machine_code


@pytest.fixture
def compiler():
    """Skip, saying why, where kernels cannot be compiled, or their machine code cannot be read."""
    driverless.require()
    absent = machine_code.missing()
    if absent is not None:
        pytest.skip(absent)
