"""What tests of the adapters share."""

import pytest


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Kernels for one thread only, which halves the compiling; how many there are has no influence on the bits."""
    monkeypatch.setattr("nagd_numba.kernels.threading_layer.parallel_allowed", lambda: False)


@pytest.fixture
def one_torch_thread():
    """PyTorch on one thread, whose sums then have one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def x64():
    """JAX has float64."""
    from tests.helpers.jax_versions import enable_x64

    with enable_x64(True):
        yield
