"""pytest in a process whose libcuda is the driver for tests: `python -m pytest -p tests.cuda_driver.pytest_plugin`.

Every test starts with nothing queued, and fails if the driver found a fault that the test did not take out of
`machine.faults`.  Tests are marked `ci` and `slow` as everywhere.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import compiler, current, start

ROOT = Path(__file__).parents[2]


def pytest_configure(config):
    if current() is None:
        start()


@pytest.fixture(autouse=True)
def machine():
    """The driver, as new but for what libraries have loaded."""
    made = current()
    made.begin()
    yield made
    made.settle()
    faults = list(made.faults)
    made.heal()
    if faults:
        pytest.fail("the CUDA driver for tests found:\n" + "\n".join(faults), pytrace=False)


@pytest.fixture(params=[0, 1, 2])
def seed(request, machine):
    """Other orders in which queued work runs."""
    machine.engine.reseed(request.param)
    yield request.param
    machine.settle()
    machine.engine.reseed(0)


def run(*files, marks="not slow and not ci", plugin=__name__):
    """Run the tests of files (which are no test files of this process) in a process with the driver."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the CUDA driver for tests is a library of Linux")
    if compiler() is None:
        pytest.skip("no C compiler (cc, gcc, clang): the CUDA driver for tests cannot be built")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "NAGD_NUMBA_PASSED"))}
    options = ["-q", "-p", plugin, "-p", "no:cacheprovider", "-m", marks]
    command = [sys.executable, "-m", "pytest", *options, *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    print(done.stdout)
