"""`group.py`: a step in a process group; nothing of ours keeps the group when it is destroyed."""

import gc
import weakref

import numpy as np
import pytest
import torch.distributed as dist

from nagd_numba.distributed import communicator
from tests.distributed.programs.world import world


def main():
    group, _ = world()
    comm = communicator(group)
    comm.broadcast(np.ones(3))
    known = weakref.ref(group)
    del group
    dist.destroy_process_group()
    gc.collect()
    assert known() is None
    with pytest.raises(RuntimeError, match="destroy_process_group was called"):
        comm.barrier()


if __name__ == "__main__":
    main()
