"""The real driver class, cuda.bindings and numba-cuda on the CUDA driver for tests: in processes of their own."""

from pathlib import Path

import pytest

from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers import on_driver

HERE = Path(__file__).parent / "on_driver"

pytestmark = pytest.mark.skipif(SIMULATOR, reason="the CUDA simulator compiles no kernels")
pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'numba-cuda[cu13]'")


def test_steps_streams_lifetimes_and_planted_faults():
    on_driver.run(*(HERE / f"{name}.py" for name in ("steps", "streams_and_lifetimes", "bound", "faults")))


@pytest.mark.ci
def test_guards():
    on_driver.run(HERE / "guards.py", marks="not slow")


@pytest.mark.ci
def test_masks_and_averages():
    on_driver.run(HERE / "composed.py", marks="not slow")


@pytest.mark.slow
def test_training_and_what_is_unloaded():
    on_driver.run(*(HERE / f"{name}.py" for name in ("training", "unloading")), marks="not slow")


@pytest.mark.slow
def test_failures_of_every_call():
    on_driver.run(*(HERE / f"{name}.py" for name in ("failures", "failing_calls")), marks="not slow")


@pytest.mark.slow
def test_failures_of_every_call_of_a_training():
    on_driver.run(HERE / "failures.py", HERE / "unloading.py", marks="slow")
