"""What the tests of steps on device arrays need."""

import pytest

from tests.helpers import driverless, fake_driver


@pytest.fixture
def compiler():
    """Skip, saying why, where kernels cannot be compiled."""
    driverless.require()


@pytest.fixture
def gpu():
    with fake_driver.installed() as fake:
        yield fake
