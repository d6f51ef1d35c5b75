"""Every rule, with and without a guard, in buckets: the bits of one process that has the sum of the gradients."""

import functools
import hashlib
import itertools
import os

import numpy as np

import nagd_numba
from nagd_numba.distributed import ShardedStep, communicator
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.distributed.programs.world import world

SIZES = (0, 5, 4097, 30_011)
GUARDS = {"none": None, "told": {}, "clipped": {"clip_norm": 0.5, "grad_scale": 3.0}, "cut": {"clip_value": 2.0}}


def course(comm, rule, n, dtype, guard, buckets, gradients, **options):
    """Some steps by all ranks, and by this one alone: parameters, states and what the guards found are the same."""
    rng = np.random.default_rng([n, 1])
    optimizer = OPTIMIZERS[rule]
    params = rng.normal(size=n).astype(dtype)
    alone, states = params.copy(), [np.zeros(n, dtype) for _ in optimizer.rule.states]
    if rule == "fista":
        states = [alone.copy()]
    guards = [None if guard is None else nagd_numba.Guard(**guard) for _ in range(2)]
    sharded = ShardedStep(comm, params, rule, guard=guards[0], buckets=buckets, **options)
    for t in range(1, 4):
        parts = gradients(rng, comm.size, n).astype(dtype)
        total = functools.reduce(np.add, parts) / dtype(comm.size)
        counted = {"t": t} if "t" in optimizer.settings else {}
        optimizer.step(alone, total, *states, **counted, guard=guards[1], **options)
        assert sharded.step(parts[comm.rank], **({"t": float(t)} if rule == "fista" else {})) is params
        what = (rule, n, dtype, guard, buckets, t)
        assert params.tobytes() == alone.tobytes(), what
        for name, x in zip(optimizer.rule.states, states, strict=True):
            assert sharded.states[name].tobytes() == x[sharded.lo : sharded.hi].tobytes(), what
        if guard is not None:
            for name in ("norm", "dot", "nonfinite_count", "skipped"):
                np.testing.assert_array_equal(getattr(guards[0], name), getattr(guards[1], name), str(what))
    assert sharded.t == 3
    return params


def whole_numbers(rng, ranks, n):
    return rng.integers(-50, 50, (ranks, n))


def any_numbers(rng, ranks, n):
    return rng.normal(size=(ranks, n))


def main():
    engine, arguments = world()
    comm = communicator(engine)
    assert communicator(engine) is comm
    digest = hashlib.sha256()
    cases = [(rule, guard, 30_011, 3) for rule in OPTIMIZERS for guard in ("none", "clipped")]
    cases += [("nesterov", guard, n, 2) for guard in ("told", "cut") for n in SIZES]
    if "few" in arguments:
        cases = [("nesterov", "clipped", 30_011, 3), ("adam", "none", 5, 1)]
    elif "all" in arguments:
        cases = list(itertools.product(OPTIMIZERS, GUARDS, SIZES, (1, 3)))
    for rule, guard, n, buckets in cases:
        dtype = np.float64 if n == 4097 else np.float32
        for gradients in (whole_numbers, any_numbers) if "all" in arguments else (any_numbers,):
            digest.update(course(comm, rule, n, dtype, GUARDS[guard], buckets, gradients))
    course(comm, "nesterov", 5000, np.float32, None, None, any_numbers, convention="keras", weight_decay=0.1)
    course(comm, "nadam", 5000, np.float32, None, None, any_numbers, variant="keras")
    os.write(1, f"digest {digest.hexdigest()}\n".encode())  # in one piece, beside those of other ranks


if __name__ == "__main__":
    main()
