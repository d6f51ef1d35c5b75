"""Steps of several ranks: the bits of one process, with every rule, by MPI and by gloo."""

import functools
from pathlib import Path

import pytest

from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF
from tests.helpers.ranks import require_mpi, run_gloo, run_ranks

pytestmark = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled kernels, in many processes")
PROGRAM = Path(__file__).parent / "programs" / "steps.py"


@functools.cache
def digests(ranks, *arguments):
    """What all ranks found, by MPI."""
    done = run_ranks(PROGRAM, ranks, *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    return sorted(line for line in done.stdout.splitlines() if line.startswith("digest"))


@pytest.mark.parametrize(
    ("ranks", "arguments"),
    [
        (3, ()),
        *(pytest.param(n, (), marks=pytest.mark.slow if n == 8 else pytest.mark.ci) for n in (1, 2, 8)),
        pytest.param(4, ("all",), marks=pytest.mark.slow),
    ],
)
def test_every_rule_has_the_bits_of_one_process(ranks, arguments):
    """Also of sums that are rounded: their order is that of the ranks."""
    require_mpi()
    found = digests(ranks, *arguments)
    assert len(found) == ranks
    assert len(set(found)) == 1


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_gloo_carries_the_same_bits(ranks, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    found = sorted(
        line for text in run_gloo(PROGRAM, ranks, tmp_path, "few") for line in text.splitlines() if "digest" in line
    )
    assert len(found) == ranks
    assert len(set(found)) == 1
    require_mpi()
    assert found == digests(ranks, "few")


def test_a_process_group_is_let_go(tmp_path):
    """Its threads end with it; were they there when the process ends, the process would be aborted."""
    pytest.importorskip("torch", reason="torch is not installed")
    run_gloo(PROGRAM.with_name("group.py"), 1, tmp_path)
