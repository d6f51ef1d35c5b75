"""Was this process started as one of several, by mpiexec?

Told by the environment that launchers set, so that a command that was not launched imports no mpi4py:

    PMI_SIZE, PMI_RANK                              MPICH, Intel MPI, `srun --mpi=pmi2`
    OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_RANK      Open MPI
    SLURM_STEP_NUM_TASKS, PMIX_RANK                 `srun --mpi=pmix`
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

_SIZES = {"PMI_SIZE": "PMI_RANK", "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK", "SLURM_STEP_NUM_TASKS": "PMIX_RANK"}


def place() -> tuple[int, int]:
    """The rank of this process and the number of processes, as the launcher says; (0, 1) without."""
    for size, rank in _SIZES.items():
        with contextlib.suppress(KeyError, ValueError):
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def world() -> Any:
    """The communicator of all processes, or None for one; raises `ValueError` where it cannot be had."""
    _, size = place()
    if size == 1:
        return None
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # the latter where there is no MPI library
        raise ValueError(
            f"started as {size} processes, and mpi4py cannot be used ({error}); pip install mpi4py mpich, or start one"
        ) from error
    from ..distributed import communicator

    if MPI.COMM_WORLD.size != size:
        raise ValueError(
            f"started as {size} processes, of which mpi4py sees {MPI.COMM_WORLD.size}: its MPI "
            f"({MPI.Get_library_version().splitlines()[0]}) is not that of the launcher; start with the mpiexec that "
            f"belongs to it"
        )
    return communicator(MPI.COMM_WORLD)


@contextlib.contextmanager
def quiet(rank: int) -> Iterator[None]:
    """In this block all ranks but the first print nothing to standard output."""
    if rank == 0:
        yield
    else:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield


@contextlib.contextmanager
def quiet_errors(rank: int) -> Iterator[None]:
    """The same of standard error, for what all ranks say alike."""
    before = sys.stderr
    if rank == 0:
        yield
    else:
        with open(os.devnull, "w") as sys.stderr:
            try:
                yield
            finally:
                sys.stderr = before


@contextlib.contextmanager
def agreeing(comm: Any) -> Iterator[dict[str, Any]]:
    """A `ValueError` or `OSError` of one rank in this block is raised on all of them; so is a difference between ranks.

    What must be the same on all is put into the dictionary.
    """
    said: dict[str, Any] = {}
    error: Exception | None = None
    try:
        yield said
    except (ValueError, OSError) as caught:
        if comm is None:
            raise
        error = caught
    if comm is None:
        return
    everyones = comm.all_gather_object((None if error is None else str(error), said))
    for rank, (text, _) in enumerate(everyones):
        if text is not None:
            same = all(other == text for other, _ in everyones)
            raise ValueError(text if same else f"process {rank} of {len(everyones)}: {text}") from error
    for name in said:
        if any(other[name] != said[name] for _, other in everyones):
            raise ValueError(f"the processes have different {name}; the same is needed")
