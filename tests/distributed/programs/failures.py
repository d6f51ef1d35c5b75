"""`failures.py WAY`: rank 1 fails in a way before its second step; the others are in theirs, and wait."""

import os
import signal
import sys
import time

import numpy as np

from nagd_numba.distributed import ShardedStep, communicator
from tests.distributed.programs.world import world


def main():
    comm, (way,) = world()
    rank = communicator(comm).rank
    sharded = ShardedStep(comm, np.zeros(10_000, np.float32), timeout=2.0 if way in ("stop", "late") else 600.0)
    grads = np.ones(10_000, np.float32)
    sharded.step(grads)
    os.write(1, b"one step\n")
    if rank == 1:
        if way == "kill":
            if (
                sys.argv[1].startswith("gloo") and os.fork() == 0
            ):  # a child that lives on does not hide the end of its parent
                os.closerange(0, 3)
                time.sleep(20)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        if way == "raise":
            raise ArithmeticError("the data are\nat an end")
        if way == "leave":
            sys.exit(0)
        if way == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if way == "late":
            time.sleep(60)
    sharded.step(grads)
    if way == "alone":  # ranks that end in good order, one much later
        time.sleep(5.0 * (rank == 1))


if __name__ == "__main__":
    main()
