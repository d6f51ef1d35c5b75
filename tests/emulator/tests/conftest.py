"""Memory for kernels, and where they cannot be compiled the reason."""

import importlib.util
import os

import pytest

from .. import memory as memory_of_a_block


@pytest.fixture
def compiler():
    """Skip, saying why, where kernels cannot be compiled."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0":
        pytest.skip("the CUDA simulator runs kernels in Python and compiles none")
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed: pip install 'numba-cuda[cu13]'")


@pytest.fixture
def memory():
    with memory_of_a_block() as made:
        yield made
