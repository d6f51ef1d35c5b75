"""Device arrays: what can be tested in Numba's simulator, where they lie in host memory."""

from pathlib import Path

import pytest

from tests.helpers.ranks import ENVIRONMENT, require_mpi, run_ranks

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
PROGRAM = Path(__file__).parent / "programs" / "device.py"


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.ci), 3])
def test_device_arrays_in_the_simulator(ranks, monkeypatch):
    require_mpi()
    monkeypatch.setitem(ENVIRONMENT, "NUMBA_ENABLE_CUDASIM", "1")
    done = run_ranks(PROGRAM, ranks)
    assert done.returncode == 0, done.stderr[-4000:]
