"""Solves on the CUDA driver for tests, in a process of their own."""

from pathlib import Path

import pytest

from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers import on_driver

pytestmark = [pytest.mark.ci, pytest.mark.skipif(SIMULATOR, reason="the CUDA simulator compiles no kernels")]
pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'numba-cuda[cu13]'")


def test_solves():
    on_driver.run(Path(__file__).parent / "on_driver" / "solves.py")
