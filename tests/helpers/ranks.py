"""Programs of several ranks, as processes of their own that always end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MPIEXEC = Path(sys.executable).with_name("mpiexec")
SECONDS = 120  # for a program; what it asserts about times is in it

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    "OMP_WAIT_POLICY": "passive",
}


def require_mpi() -> None:
    """Skip, with the reason, where there is no mpi4py, no MPI library or no mpiexec."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install '.[mpi]'")
    if not MPIEXEC.is_file():
        pytest.skip(f"there is no mpiexec beside {sys.executable}: pip install '.[mpi]'")


def run_ranks(program: Path, ranks: int, *arguments: str) -> subprocess.CompletedProcess:
    """The program by `mpiexec -n ranks`; `stdout` and `stderr` are those of all ranks.  It always ends."""
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, str(program), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            out, err = process.communicate()
            pytest.fail(f"{command} did not end within {SECONDS} s:\n{out[-2000:]}\n{err[-4000:]}")
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def run_gloo(program: Path, ranks: int, folder: Path, *arguments: str, ends: tuple[int, ...] = ()) -> list[str]:
    """The program as so many processes that meet in PyTorch's gloo; what each wrote.

    Each ends with 0, or as `ends` says.
    """
    commands = [
        [sys.executable, str(program), f"gloo:{folder}/meet:{rank}:{ranks}", *arguments] for rank in range(ranks)
    ]
    processes = [
        subprocess.Popen(x, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)
        for x in commands
    ]
    try:
        said = [x.communicate(timeout=SECONDS)[0] for x in processes]
    finally:
        for x in processes:
            x.kill()
    for x, text, status in zip(processes, said, ends or (0,) * ranks, strict=True):
        assert x.returncode == status, text[-4000:]
    return said
