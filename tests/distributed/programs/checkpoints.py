"""`checkpoints.py save|go DIRECTORY [killed NUMBER]`: a training that is saved after each step, or goes on from there.

With `killed` rank 1 ends itself at the NUMBER-th file that is put in its place while the third checkpoint is written.
"""

import hashlib
import json
import os
import signal
import sys

import numpy as np

from nagd_numba.distributed import ShardedStep, communicator
from tests.distributed.programs.world import world

N, STEPS = 30_011, 6


def gradient(t, rank):
    """Whole numbers, the whole of it from one rank: the sum does not depend on how many there are."""
    x = np.random.default_rng(t).integers(-9, 9, N).astype(np.float32)
    return x if rank == 0 else np.zeros_like(x)


def kill_at(number, rank):
    """Let this process be killed at the number-th replacement of a file."""
    replace, count = os.replace, 0

    def counting(*names):
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*names)

    if communicator(world()[0]).rank == rank:
        os.replace = counting


def main():
    comm, (what, folder, *killed) = world()
    rank = communicator(comm).rank
    sharded = ShardedStep(comm, np.zeros(N, np.float32), "adam", divisor=1.0)
    first = 0
    if what == "go":
        first = sharded.load(folder)["step"]
        assert sharded.t == first
    for t in range(first, STEPS):
        if killed and t == 3:
            kill_at(int(killed[1]), int(killed[2]))
        sharded.step(gradient(t, rank))
        if what == "save" and t < 4:
            sharded.save(folder, {"step": t + 1})
    state = sharded.state_dict()
    found = hashlib.sha256(b"".join(state[name].tobytes() for name in ("params", "m", "v"))).hexdigest()
    os.write(1, f"{state['t']} {found} {first}\n".encode())
    other = ShardedStep(comm, np.zeros(N, np.float32), "adam", divisor=1.0)
    other.load_state_dict(state)
    assert other.params.tobytes() == sharded.params.tobytes()
    assert all(other.states[name].tobytes() == sharded.states[name].tobytes() for name in ("m", "v"))
    assert other.t == STEPS
    if what == "go":  # a part that is damaged, or gone, is noticed on all ranks, and nothing changes
        communicator(comm).barrier()
        if rank == 0:
            with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
                part = json.load(file)["parts"][0]["file"]  # those of the save that was cut off are there as well
            with open(os.path.join(folder, part), "r+b") as file:
                file.seek(-100, 2)
                file.write(b"damage")
        communicator(comm).barrier()
        before = other.params.tobytes()
        for path in (folder, folder + "/none"):
            try:
                other.load(path)
            except (OSError, ValueError, RuntimeError):
                assert other.params.tobytes() == before
                assert other.t == STEPS
            else:
                sys.exit("damage was not noticed")


if __name__ == "__main__":
    main()
