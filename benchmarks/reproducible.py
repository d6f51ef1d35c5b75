"""What sums that do not depend on the number of ranks cost: an epoch of `MLP.fit` with `reproducible` and without.

    python -m benchmarks.reproducible
    mpiexec -n 2 python -m benchmarks.reproducible

Both forms train the same network in turn, in one process; a run's time is that of the shortest of three epochs.  The
ratio is the median over rounds of that of two runs that follow each other; `best` is that of the shortest runs, for a
machine on which others work, too.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from typing import Any

import numpy as np

import nagd_numba
from nagd_numba.distributed import communicator

NETWORKS = ((64, 128, 10), (64, 512, 512, 10), (784, 1024, 1024, 10))
BATCHES = (32, 128, 512)
UPDATES = 60.0  # of the smallest network with the smallest batch, in a run; others fewer


def main() -> None:
    """Print a table of all networks and batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--micro-batches", type=int, default=8)
    args = parser.parse_args()
    comm: Any = None
    if "PMI_SIZE" in os.environ or "OMPI_COMM_WORLD_SIZE" in os.environ:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    comm = communicator(comm)
    if comm.rank == 0:
        print(f"{comm.size} ranks, {args.micro_batches} micro-batches, float32, momentum; ms an update, medians")
        print(f"{'network':20} {'batch':>5} {'ordinary':>9} {'reproducible':>12} {'ratio':>6} {'best':>6}")
    for sizes in NETWORKS:
        for batch in BATCHES:
            times, ratio, best = measured(comm, sizes, batch, args.rounds, args.micro_batches)
            if comm.rank == 0:
                shown = "-".join(map(str, sizes))
                print(f"{shown:20} {batch:5} {times[0]:9.3f} {times[1]:12.3f} {ratio:6.2f} {best:6.2f}", flush=True)


def measured(
    comm: Any, sizes: tuple[int, ...], batch: int, rounds: int, parts: int
) -> tuple[list[float], float, float]:
    """Milliseconds of an update of both forms, the ratio of the second to the first, and that of the best."""
    random = np.random.default_rng(0)
    net = nagd_numba.MLP(sizes)
    updates = max(4, int(UPDATES * (net.init(0).size / 10_000) ** -0.5 * (batch / 32) ** -0.5))
    X = random.random((updates * batch, sizes[0]), np.float32)
    y = random.integers(0, sizes[-1], len(X))
    rates: list[list[float]] = [[], []]
    for k in range(rounds + 1):  # the first compiles and fills the caches
        for form in (0, 1) if k % 2 else (1, 0):
            params, ends = net.init(0), []
            comm.barrier()

            def callback(_: Any, ends: list[float] = ends) -> None:
                ends.append(time.perf_counter())

            options: dict[str, Any] = {"comm": comm, "reproducible": form == 1, "micro_batches": parts}
            net.fit(params, X, y, 4, batch, callback=callback, **options)
            if k:
                rates[form].append(1e3 * min(b - a for a, b in itertools.pairwise(ends)) / updates)
    ratio = statistics.median(b / a for a, b in zip(*rates, strict=True))
    return [statistics.median(x) for x in rates], ratio, min(rates[1]) / min(rates[0])


if __name__ == "__main__":
    main()
