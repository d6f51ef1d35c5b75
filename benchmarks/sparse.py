"""What a sparse X saves: an update of `MLP.fit` on it, and on the same X as a dense matrix.

    python -m benchmarks.sparse

Both train the same network in turn, in one process, to the same bits; times are those of the epoch without its checks
(two epochs less one), the ratio is the median over rounds of that of two that follow each other.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from scipy import sparse

import nagd_numba

CASES = (  # columns, width of the hidden layer, share of the values that are stored
    (1_000, 64, 0.1),
    (1_000, 64, 0.01),
    (10_000, 64, 0.1),
    (10_000, 64, 0.01),
    (10_000, 64, 0.001),
)


def main() -> None:
    """Print a table of all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=200)
    args = parser.parse_args()
    print(f"float32, batches of {args.batch}, nag; ms an update, medians of {args.rounds}")
    print(f"{'columns':>8} {'hidden':>6} {'stored':>7} {'sparse':>8} {'dense':>8} {'dense/sparse':>12}")
    for columns, hidden, density in CASES:
        own, dense, ratio = measured(columns, hidden, density, args.batch, args.rounds)
        print(f"{columns:8} {hidden:6} {density:7.1%} {own:8.3f} {dense:8.3f} {ratio:12.2f}", flush=True)


def measured(columns: int, hidden: int, density: float, batch: int, rounds: int) -> tuple[float, float, float]:
    """Milliseconds of an update on a sparse X and on a dense one, and the ratio of the second to the first."""
    random = np.random.default_rng(0)
    net, updates = nagd_numba.MLP([columns, hidden, 10]), 10
    X = sparse.random_array((updates * batch, columns), density=density, rng=random, format="csr", dtype=np.float32)
    y = random.integers(0, 10, updates * batch)
    forms = X, X.toarray()

    def update(form: sparse.csr_array | np.ndarray) -> float:
        ends: list[float] = []

        def told(_: nagd_numba.History) -> None:
            ends.append(time.perf_counter())

        net.fit(net.init(0), form, y, epochs=2, batch_size=batch, lr=0.01, callback=told)
        return 1e3 * (ends[1] - ends[0]) / updates

    times = [[update(form) for form in forms] for _ in range(rounds + 1)][1:]
    ratio = statistics.median(dense / own for own, dense in times)
    return *(statistics.median(x) for x in zip(*times, strict=True)), ratio


if __name__ == "__main__":
    main()
