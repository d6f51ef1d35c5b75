"""Each claim of the README: in a process of its own, since a process chooses its libcuda once."""

from pathlib import Path

import pytest

from ..pytest_plugin import run

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'numba-cuda[cu13]'")

HERE = Path(__file__).parent / "on_driver"
FILES = [HERE / f"{name}.py" for name in ("streams",)]


def test_every_claim():
    run(*FILES)
