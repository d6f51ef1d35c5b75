"""Training and inference by the real driver class on the CUDA driver for tests, in a process of its own."""

from pathlib import Path

import pytest

from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers import on_driver

HERE = Path(__file__).parent / "on_driver"

pytestmark = pytest.mark.skipif(SIMULATOR, reason="the CUDA simulator compiles no kernels")
pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'numba-cuda[cu13]'")


@pytest.mark.slow
def test_training():
    on_driver.run(HERE / "training.py")
