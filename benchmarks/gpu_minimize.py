"""Many small fits: `minimize_many` on a device against all cores of the CPU, whose bits it must have."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator

import numpy as np
from numba import njit

from nagd_numba import minimize_many
from nagd_numba.gpu import driver

from .gpu_report import Row
from .gpu_step import Job
from .gpu_timing import Contender, compare, measure

COUNTS = (10**4, 10**5, 10**6)
POINTS = 16
FITS_PER_SECOND, TIMES_CPU = 1e6, 20.0  # aims, at 10^6 fits
ROUNDS = 3


@njit
def decay(x, g, signal, times):
    """Half the squared misfit of `x_1 / (1 + x_2 t)`."""
    total = 0.0
    g[0] = g[1] = 0.0
    for i in range(times.size):
        e = 1.0 / (1.0 + x[1] * times[i])
        r = x[0] * e - signal[i]
        total += 0.5 * r * r
        g[0] += r * e
        g[1] -= r * x[0] * times[i] * e * e
    return total


def problems(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, signals with noise, times."""
    random = np.random.default_rng(0)
    times = np.linspace(0.0, 3.0, POINTS)
    truth = random.uniform(0.5, 1.5, size=(count, 2))
    signals = truth[:, :1] / (1.0 + truth[:, 1:] * times) + 0.001 * random.normal(size=(count, POINTS))
    return np.ones((count, 2)), signals, times


def fits(largest: int) -> Iterator[Job]:
    """10^4 to 10^6 fits of two parameters to 16 points, in float64; signals of at most 2^largest elements."""
    for count in COUNTS:
        if count * POINTS <= 1 << largest:
            yield {"fits": f"{count:,}"}, functools.partial(_fits_row, count)


def _fits_row(count: int, row: Row) -> None:
    X0, signals, times = problems(count)
    here = driver.current()
    there = [here.upload(x, 0) for x in (X0, signals, times)]

    def ours() -> Contender:
        expected = minimize_many(decay, X0, (signals,), (times,), "inplace")
        found = minimize_many(decay, there[0], (there[1],), (there[2],), "inplace")
        for name in ("x", "fun", "nit", "status"):
            if not np.array_equal(here.download(found[name]), expected[name]):
                raise AssertionError(f"{name} has other bits than on the CPU")
        return Contender(lambda: minimize_many(decay, there[0], (there[1],), (there[2],), "inplace"))

    makers = {"ours": ours, "CPU": lambda: Contender(lambda: minimize_many(decay, X0, (signals,), (times,), "inplace"))}
    seconds = measure(row, makers, steps=1, rounds=ROUNDS)
    compare(row, seconds, "ms", 1e3, {"CPU": TIMES_CPU} if count == max(COUNTS) else {})
    if "ours" in seconds:
        target = FITS_PER_SECOND if count == max(COUNTS) else None
        row.put("our fits a second", count / statistics.median(seconds["ours"]), "1/s", target=target)
