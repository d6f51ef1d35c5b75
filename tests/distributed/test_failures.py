"""A rank that is gone, or stands still, ends the job soon and with a message on the other ranks; no rank hangs.

What mpiexec of MPICH does meanwhile is its own: once it sees that a rank was killed, it kills the others, perhaps
before they have written their messages.  So what each rank writes is tested without it, by gloo.
"""

import re
import signal
import time
from pathlib import Path

import pytest

from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF
from tests.helpers.ranks import require_mpi, run_gloo, run_ranks

pytestmark = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled kernels, in many processes")
PROGRAM = Path(__file__).parent / "programs" / "failures.py"
WAYS = {
    "kill": r"rank 1 of 3 \(process \d+ on .*\) was killed or crashed",
    "raise": "rank 1 of 3 raised ArithmeticError: the data are",
    "leave": "rank 1 of 3 has ended, and rank [02] waits for it in step 2",
    "stop": "rank [02] of 3 has waited 2 s for others in step 2",
    "late": "rank [02] of 3 has waited 2 s for others in step 2",
}


@pytest.mark.parametrize(
    "way",
    [
        *("kill", "raise"),
        pytest.param("stop", marks=pytest.mark.ci),
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("leave", "late")),
    ],
)
def test_by_mpi(way):
    require_mpi()
    done = run_ranks(PROGRAM, 3, way)
    assert done.stdout.count("one step") == 3
    assert done.returncode != 0
    if way == "kill":
        said = done.stderr + done.stdout  # MPICH's launcher says it on stdout, and may be first
        assert re.search(WAYS[way] + r"|KILLED BY SIGNAL|Killed \(signal 9\)|EXIT CODE: 9", said), said
    else:
        assert len(re.findall(WAYS[way], done.stderr)) >= 2, done.stderr
    if way == "raise":
        assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    "way",
    [
        *("kill", pytest.param("leave", marks=pytest.mark.ci)),
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("raise", "late")),
    ],
)
def test_by_gloo_every_rank_has_its_message(way, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    ends = (1, -signal.SIGKILL if way == "kill" else 1, 1)
    start = time.monotonic()
    said = run_gloo(PROGRAM, 3, tmp_path, way, ends=ends)
    assert time.monotonic() - start < 60  # the waits of the program alone are 600 s
    for rank in (0, 2):
        assert re.search(rf"{WAYS[way]}.*This rank, {rank} of 3, was .*it ends now", said[rank]), said[rank]


@pytest.mark.ci
def test_ranks_that_end_in_good_order_may_wait_for_each_other():
    require_mpi()
    done = run_ranks(PROGRAM, 3, "alone")
    assert done.returncode == 0, done.stderr
    assert "nagd_numba" not in done.stderr
