"""What one rank does wrong, all ranks hear of, before anything was written; then they go on."""

import numpy as np
import pytest

import nagd_numba
from nagd_numba.distributed import ShardedStep, communicator
from tests.distributed.programs.world import world

N = 20_000


def main():
    comm, _ = world()
    rank = communicator(comm).rank
    odd = rank == 1
    start = np.arange(N, dtype=np.float32)

    def refused(call, mine, others, *words):
        """`call` raises `mine` on the odd rank and `others` elsewhere; the message has the words."""
        with pytest.raises(mine if odd else others) as caught:
            call()
        for word in words:
            assert word in str(caught.value), str(caught.value)

    def make(params=start, *rest, **options):
        return lambda: ShardedStep(comm, params, *rest, **options)

    both = ValueError, ValueError
    refused(make(np.zeros(N + odd, np.float32)), *both, "number of params", "20000 on rank", "20001 on rank 1")
    refused(make(start.astype(np.float64 if odd else np.float32)), *both, "dtype", "'float64' on rank 1")
    refused(make(start + odd), *both, "params (their sha256)")
    refused(make(start, "adam" if odd else "adamw"), *both, "rule is")
    refused(make(lr=0.2 if odd else 0.1), *both, "lr is 0.1 on rank", "0.2 on rank 1")
    refused(make(buckets=2 if odd else 1), *both, "buckets")
    refused(make(guard=nagd_numba.Guard(1.0 + odd)), *both, "guard.clip_norm")
    refused(make(guard=nagd_numba.Guard() if odd else None), *both, "guard is")
    refused(make(divisor=2.0 if odd else None), *both, "divisor")
    refused(make(lr=-1.0 if odd else 0.1), ValueError, RuntimeError, "ShardedStep: lr is -1.0")
    refused(make(start[::2] if odd else start[:10]), ValueError, RuntimeError, "not contiguous")
    refused(make(timeout=0 if odd else 1), ValueError, RuntimeError, "timeout is 0")
    refused(make([start] if odd else start), TypeError, RuntimeError, "FlatParams")

    params, grads = start.copy(), np.ones(N, np.float32)
    sharded = ShardedStep(comm, params, lr=0.1, buckets=2)

    def step(grads=grads, **numbers):
        return lambda: sharded.step(grads, **numbers)

    def unfit(mine, *words, **numbers):
        refused(step(**numbers), mine, RuntimeError, "ShardedStep.step", *words)

    unfit(ValueError, "grads has 3 elements", grads=grads[:3] if odd else grads)
    unfit(TypeError, "float64", grads=grads.astype(np.float64) if odd else grads)
    unfit(ValueError, "overlap", grads=params if odd else grads)
    unfit(TypeError, "momentun", **{"momentun" if odd else "momentum": 0.9})
    unfit(ValueError, "lr is nan", lr=np.nan if odd else 0.1)
    unfit(ValueError, "divisor is 0", divisor=0 if odd else 2)
    refused(step(lr=0.1 * (1 + odd)), *both, "lr is 0.1 on rank", "0.2 on rank 1")
    refused(step(divisor=1.0 if odd else 2.0), *both, "divisor")
    assert sharded.t == 0
    assert params.tobytes() == start.tobytes()
    assert not any(x.any() for x in sharded.states.values())

    # A gradient that is not finite, on one rank, in the slice of another.
    guard = nagd_numba.Guard(nonfinite="skip")
    sharded = ShardedStep(comm, params, guard=guard)
    bad = grads.copy()
    bad[-1] = np.nan if odd else 1.0
    sharded.step(bad)
    assert sharded.skipped
    assert guard.nonfinite_count == 1
    assert params.tobytes() == start.tobytes()
    guard.nonfinite = "raise"
    with pytest.raises(FloatingPointError):
        sharded.step(bad)
    assert params.tobytes() == start.tobytes()
    assert sharded.t == 0
    sharded.step(grads)
    assert sharded.t == 1
    assert not sharded.skipped
    assert (params != start).all()

    # Every message and every state is in order after all that.
    everyones = communicator(comm).all_gather_object(params.tobytes())
    assert len(set(everyones)) == 1


if __name__ == "__main__":
    main()
