"""A launch of `minimize_many` from its machine code: the results, and how the accesses of neighbours lie.

    python -m tests.ptx.minimize_launch

prints for each array how many sectors of 32 bytes a warp asks for at a time, against the least for as many bytes.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numba import types

from nagd_numba.gpu.compiler import Kernel
from nagd_numba.minimizer import algorithm, settings
from nagd_numba.minimizer.gpu import kernel
from nagd_numba.minimizer.gpu.launches import NOWHERE, Results
from nagd_numba.minimizer.objective import COUNTS
from nagd_numba.minimizer.specialize import INPLACE, Functions
from tests.helpers.objectives import line
from tests.ptx import machine_code
from tests.ptx.sass.listing import Listing
from tests.ptx.sass.machine import Access, Block, constant_bank
from tests.ptx.sass.memory import WARP, Device, Placed

HOPPER = (9, 0)
TOL = 1e-3
SECTOR = 32  # bytes that memory gives at once
STATE = ("x", "work", "numbers", "counts", "stages")


class Traffic(NamedTuple):
    """Of the accesses to an array."""

    requests: int  # of a warp
    sectors: int
    least: int  # sectors that hold as many bytes


@functools.cache
def made() -> Kernel:
    """The kernel for `line`."""
    arrays = (types.float64[:, ::1],), (types.float64[::1],)
    return kernel.kernel(Functions(line, None, INPLACE), types.float64, *arrays)


def run(
    X0: np.ndarray, signals: np.ndarray, times: np.ndarray, maxiter: int
) -> tuple[dict[str, Any], dict[str, Traffic]]:
    """Problems of one block to their ends: what `minimize_many` returns, and the traffic of each array."""
    problems, n = X0.shape
    wanted = settings.choices(n, "nag", None, None, "gradient", None, TOL, maxiter, None)
    device = Device()
    state = {
        "x": np.zeros((n, problems)),
        "work": np.zeros((algorithm.VECTORS, n, problems)),
        "numbers": np.zeros((algorithm.NUMBERS, problems)),
        "counts": np.zeros((COUNTS, problems), np.int64),
        "stages": np.zeros(problems, np.int64),
        "ended": np.array([0] * kernel.STATUSES + [NOWHERE]),
    }
    matrix, vector, whole = np.zeros((problems, n)), np.zeros(problems), np.zeros(problems, np.int64)
    results = Results(matrix, matrix, vector, vector, *[whole] * 5, np.zeros(problems, np.bool_))._asdict()
    given = {"X0": X0, **state, **{f"result.{name}": values for name, values in results.items()}}
    given |= {"first": np.zeros(1), "second": np.zeros(1), "signals": signals, "times": times}
    placed = {name: device.array(values) for name, values in given.items()}
    threads = -(-problems // WARP) * WARP
    at = {name: np.uint64(array.address) for name, array in placed.items()}
    inputs = ("first", "second", "signals", "times")
    parameters: list[Any] = [address for name, address in at.items() if name not in inputs]
    parameters += [np.int64(v) if isinstance(v, int) else np.float64(v) for v in wanted.settings]
    parameters += [at["first"], at["second"], *map(np.int64, (n, 0, problems, problems, 1, maxiter + 1, -1))]
    parameters += [at["signals"], *map(np.int64, signals.shape), at["times"], np.int64(times.size)]
    listing = Listing.of(machine_code.disassembled(made().image(HOPPER)))
    counts = Block(listing, device, constant_bank(1, threads, parameters), threads).run()
    found = {name: placed[f"result.{name}"].data.reshape(values.shape) for name, values in results.items()}
    return found, {name: traffic(counts.accesses, array) for name, array in placed.items()}


def traffic(accesses: list[Access], array: Placed) -> Traffic:
    """What a warp asks for in this array, at a time (of a block of one warp)."""
    total: Counter[str] = Counter()
    for access in accesses:
        inside = (access.addresses >= array.address) & (access.addresses < array.address + array.data.nbytes)
        wanted = access.addresses[inside]
        if wanted.size:
            total["requests"] += 1
            total["sectors"] += np.unique(wanted // SECTOR).size
            total["least"] += -(-np.unique(wanted).size * access.width // SECTOR)
    return Traffic(total["requests"], total["sectors"], total["least"])


def samples(problems: int = WARP) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, signals, times."""
    random, times = np.random.default_rng(0), np.linspace(0.0, 1.0, 5)
    truth = random.normal(size=(problems, 2))
    noise = 0.01 * random.normal(size=(problems, times.size))
    return np.zeros((problems, 2)), truth[:, :1] + truth[:, 1:] * times + noise, times


def main() -> None:
    for name, (requests, sectors, least) in run(*samples(), 20)[1].items():
        if requests:
            print(
                f"{name:16} {requests:6} requests, {sectors / requests:5.2f} sectors each, least {least / requests:.2f}"
            )


if __name__ == "__main__":
    main()
