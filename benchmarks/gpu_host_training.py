"""What training on a device costs the host: `fit` of one network, on both paths, and `fit_many` of 132.

    python -m benchmarks.gpu_host_training

On a machine with a device on that; elsewhere on a libcuda that does nothing.  The time is the thread's own, so that
neither the device nor other processes count; of an epoch it is the difference of a long and a short training.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .gpu_host import INSIDE, with_a_driver_that_does_nothing

ROWS, BATCH, EPOCHS, ROUNDS = 1797, 32, 20, 4  # the rows of the digits
NETWORKS = 132
SIZES = [64, 128, 10]


class Case(NamedTuple):
    name: str
    networks: int  # 0: `fit`
    keywords: dict[str, Any]
    epoch_ms: float | None  # what is aimed at
    step_us: float | None


CASES = (
    Case("fit", 0, {}, 0.1, None),
    Case("fit, adam", 0, {"optimizer": "adam", "lr": 1e-3}, None, None),
    Case("fit, several launches a step", 0, {"clip": 1.0}, None, 5.0),
    Case("fit, several launches a step, adam", 0, {"clip": 1.0, "optimizer": "adam", "lr": 1e-3}, None, 5.0),
    Case(f"fit_many of {NETWORKS}", NETWORKS, {}, 3.0, None),
    Case(f"fit_many of {NETWORKS}, adam", NETWORKS, {"optimizer": "adam", "lr": 1e-3}, None, None),
)


def training(case: Case) -> Callable[[int], None]:
    """Train for so many epochs."""
    from numba import cuda

    import nagd_numba

    rng = np.random.default_rng(0)
    net = nagd_numba.MLP(SIZES)
    X, y = rng.normal(size=(ROWS, SIZES[0])).astype(np.float32), rng.integers(0, SIZES[-1], ROWS)
    start = net.init(0)
    params = cuda.to_device(np.stack([start] * case.networks) if case.networks else start)

    def train(epochs: int) -> None:
        keywords = {"epochs": epochs, "batch_size": BATCH, **case.keywords}
        if case.networks:
            nagd_numba.fit_many(net, params, X, y, seed=list(range(case.networks)), **keywords)
        else:
            net.fit(params, X, y, **keywords)

    return train


def own_seconds(train: Callable[[int], None], epochs: int) -> float:
    start = time.thread_time()
    train(epochs)
    return time.thread_time() - start


def main() -> int:
    from nagd_numba.gpu.driver import why_no_cuda

    if why_no_cuda() is not None and INSIDE not in os.environ:
        return with_a_driver_that_does_nothing("benchmarks.gpu_host_training")
    print(f"of the host, for {SIZES} at batch {BATCH}, {ROWS} rows; aims behind it")
    for case in CASES:
        train = training(case)
        train(1)
        short, long = (min(own_seconds(train, n) for _ in range(ROUNDS)) for n in (1, 1 + EPOCHS))
        epoch = (long - short) / EPOCHS
        step = epoch / -(-ROWS // BATCH)
        aims = [f"{case.epoch_ms} ms"] if case.epoch_ms else [f"{case.step_us} us a step"] if case.step_us else []
        print(
            f"{case.name:36} {epoch * 1e3:8.3f} ms an epoch {step * 1e6:8.2f} us a step   {' '.join(aims)}", flush=True
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
