"""Steps on device arrays, in Numba's simulator: the parameters and states of the same steps on host arrays."""

import numpy as np
import pytest
from numba import cuda

from nagd_numba.distributed import ShardedStep, communicator
from tests.distributed.programs.world import world


def memory(x):
    """The host memory that the simulator's arrays are."""
    return getattr(x, "_ary", x)


def main():
    engine, _ = world()
    comm = communicator(engine)
    reduce_scatter, all_gather = comm.reduce_scatter, comm.all_gather
    comm.reduce_scatter = lambda full, shard: reduce_scatter(memory(full), memory(shard))
    comm.all_gather = lambda shard, full: all_gather(memory(shard), memory(full))
    for n in (5, 3 * 4096):
        start = np.arange(n, dtype=np.float32)
        host, there = start.copy(), cuda.to_device(start)
        ours = ShardedStep(engine, host, "adam", lr=0.1)
        sharded = ShardedStep(engine, there, "adam", lr=0.1)
        for t in range(1):
            grads = np.random.default_rng([t, comm.rank]).integers(-9, 9, n).astype(np.float32)
            ours.step(grads)
            assert sharded.step(cuda.to_device(grads)) is there
            np.testing.assert_array_equal(there.copy_to_host(), host)
        one, other = ours.state_dict(), sharded.state_dict()
        for name in ("params", "m", "v"):
            np.testing.assert_array_equal(one[name], other[name])
        sharded.load_state_dict(one | {"params": start})
        np.testing.assert_array_equal(there.copy_to_host(), start)
        with pytest.raises(ValueError, match="on the host"):
            sharded.step(start)
        with pytest.raises(ValueError, match="elements"):
            sharded.step(cuda.to_device(start[1:]))
        with pytest.raises(ValueError, match="reproducible, guard and buckets"):
            ShardedStep(engine, there, buckets=2)


if __name__ == "__main__":
    main()
