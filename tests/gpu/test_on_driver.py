"""Steps on the CUDA driver for tests, whose streams are asynchronous: see `tests.cuda_driver`."""

from tests.helpers import driverless, on_driver


def test_streams_and_lifetimes():
    driverless.require()
    on_driver.run("tests/gpu/on_driver/streams_and_lifetimes.py")
