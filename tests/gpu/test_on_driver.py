"""Steps on the CUDA driver for tests, whose streams are asynchronous: see `tests.cuda_driver`."""

import pytest

from tests.helpers import driverless, on_driver


def test_streams_and_lifetimes():
    driverless.require()
    on_driver.run("tests/gpu/on_driver/streams_and_lifetimes.py")


def test_failures():
    driverless.require()
    on_driver.run("tests/gpu/on_driver/failures.py")


@pytest.mark.ci
def test_failures_of_other_steps():
    driverless.require()
    on_driver.run("tests/gpu/on_driver/failures.py", marks="ci")


def test_bound_steps():
    driverless.require()
    on_driver.run("tests/gpu/on_driver/bound.py")
