"""The communicator of a test's program: MPI's by mpiexec, or gloo's as the first argument says."""

import atexit
import sys


def world():
    """The communicator, and the arguments behind it."""
    if len(sys.argv) > 1 and sys.argv[1].startswith("gloo:"):
        import torch.distributed as dist

        _, path, rank, size = sys.argv[1].split(":")
        dist.init_process_group("gloo", init_method=f"file://{path}", rank=int(rank), world_size=int(size))
        atexit.register(_destroy, dist)
        return dist.group.WORLD, sys.argv[2:]
    from mpi4py import MPI

    return MPI.COMM_WORLD, sys.argv[1:]


def _destroy(dist):
    """Its threads would still be there when the process ends, which aborts it."""
    if dist.is_initialized():
        dist.destroy_process_group()
