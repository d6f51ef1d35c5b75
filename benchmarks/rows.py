"""`python -m benchmarks.rows`: a step of the rows that have a gradient, beside one of all rows.

A thousand rows of ten million, each of which makes up for up to 10^5 steps.  Every call has rows that no call had
before, so that they come from memory.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np

import nagd_numba

from . import common

ROWS, WIDTH, TOUCHED, STEPS = 10_000_000, 8, 1_000, 100_000
DTYPES = ("float32", "float64")
SETTINGS = {"without decay": {}, "weight decay": {"weight_decay": 1e-4}}
if common.QUICK:
    ROWS, DTYPES = 10_000, DTYPES[:1]


def contenders(dtype: str, settings: dict[str, float], rows: int = ROWS) -> dict[str, Callable[[], object]]:
    """The steps of a matrix of so many rows, and of a few of them, in order and not."""
    rng = np.random.default_rng(0)
    params, vel, grads = (np.ones((rows, WIDTH), dtype) for _ in range(3))
    last, few, t = rng.integers(0, STEPS, rows), np.ones((TOUCHED, WIDTH), dtype), STEPS
    chosen = rng.permutation(rows).reshape(-1, TOUCHED)
    first, second, third = np.split(chosen[: len(chosen) // 3 * 3], 3)
    read = 0

    def rows_in(wanted: np.ndarray) -> Callable[[], object]:
        def run() -> object:
            nonlocal t
            t += 1
            return nagd_numba.step_rows(params, wanted[t % len(wanted)], few, vel, last, t, **settings)

        return run

    def memory() -> object:
        nonlocal read
        read += 1
        wanted = third[read % len(third)]
        return params[wanted], vel[wanted], last[wanted]

    def dense() -> object:
        return nagd_numba.step(params, grads, vel, lr=0.0, **settings)

    return {
        "all rows": dense,
        "rows, ascending": rows_in(np.sort(first)),
        "rows, in any order": rows_in(second),
        "reading the rows, NumPy": memory,
    }


class Rows:
    params = (DTYPES, list(SETTINGS), ["rows, ascending", "rows, in any order", "reading the rows, NumPy"])
    param_names = ("dtype", "settings", "contender")
    timeout = 120

    def setup_cache(self) -> common.Results:
        return {(dtype, kind): measured(dtype, kind) for dtype in DTYPES for kind in SETTINGS}

    setup_cache.timeout = 600

    def track_seconds(self, found, dtype, settings, contender):
        return found[dtype, settings].median(contender)

    track_seconds.unit = "seconds"

    def track_over_all_rows(self, found, dtype, settings, contender):
        return found[dtype, settings].over(contender, "all rows")

    track_over_all_rows.unit = "x"


def measured(dtype: str, settings: str, rows: int = ROWS) -> common.Found:
    timing = common.harness("timing")
    return common.Found(timing.interleaved(contenders(dtype, SETTINGS[settings], rows)), {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default=DTYPES, nargs="*", choices=DTYPES)
    parser.add_argument("--settings", default=list(SETTINGS), nargs="*", choices=list(SETTINGS))
    parser.add_argument("--rows", type=int, default=ROWS)
    wanted = parser.parse_args()
    print(f"{TOUCHED} rows of {wanted.rows} of {WIDTH}; medians")
    for dtype in wanted.dtype:
        for kind in wanted.settings:
            found = measured(dtype, kind, wanted.rows)
            for name, seconds in found.seconds.items():
                factor = 1 / found.over(name, "all rows")
                print(f"{dtype} {kind}, {name}: {1e6 * statistics.median(seconds):.0f} us, {factor:.0f} times as fast")


if __name__ == "__main__":
    main()
