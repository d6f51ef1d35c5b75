"""Programs of several ranks, as processes of their own that always end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MPIEXEC = Path(sys.executable).with_name("mpiexec")
SECONDS = 120  # for a program; what it asserts about times is in it
KEPT_ALIVE = "-disable-auto-cleanup"  # mpiexec then kills no rank because another has ended

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


def run_ranks(program: Path, ranks: int, *arguments: str, flags: tuple[str, ...] = (), seconds: float = SECONDS):
    """The program by `mpiexec -n ranks`; `stdout` and `stderr` are those of all ranks."""
    command = [str(MPIEXEC), *flags, "-n", str(ranks), sys.executable, str(program), *arguments]
    return ended(command, seconds)


def ended(command: list[str], seconds: float = SECONDS) -> subprocess.CompletedProcess:
    """A command; where it does not end, a failure that shows what it wrote."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            out, err = process.communicate()
            pytest.fail(f"{command} did not end within {seconds} s:\n{out[-2000:]}\n{err[-4000:]}")
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def run_gloo(program: Path, ranks: int, folder: Path, *arguments: str):
    """The program as so many processes that meet in PyTorch's gloo; what each wrote, after all ended with 0."""
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
    for x, text in zip(processes, said, strict=True):
        assert x.returncode == 0, text[-4000:]
    return said
