"""How work on a device is timed: as on the CPU, but a timing is many steps that end in one synchronisation."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nagd_numba.bench.timing import ratio
from nagd_numba.gpu import driver

from .gpu_report import Row

WARM_UP = 1.0
ROUNDS = 11
ROUND_SECONDS = 0.02
MOST_STEPS = 5_000  # of one timing
DEFAULT_STREAM = 0
BLOCK = 1 << 16  # elements of random data, which are repeated


def nothing() -> None:
    pass


@dataclass(frozen=True)
class Contender:
    """`call` starts one step; `finish` waits until all steps are done."""

    call: Callable[[], object]
    finish: Callable[[], object] = nothing

    def seconds(self, count: int, enqueue: bool = False) -> float:
        """Of one of `count` steps, the wait at the end included; with `enqueue` only the time to start it."""
        call = self.call
        start = time.perf_counter()
        for _ in range(count):
            call()
        if enqueue:
            end = time.perf_counter()
            self.finish()
        else:
            self.finish()
            end = time.perf_counter()
        return (end - start) / count


Makers = Mapping[str, Callable[[], Contender]]


def measure(row: Row, makers: Makers, steps: int | None = None, rounds: int | None = None, enqueue: bool = False):
    """Seconds a step of each contender that works, one value a round; the reasons of the others go to the row.

    `steps`: how many make one timing; by default as many as take ROUND_SECONDS.
    """
    contenders = {}
    for name, make in makers.items():
        try:
            contender = make()
            contender.seconds(1)
            contenders[name] = contender
        except Exception as error:
            row.failed(name, error)
    end = time.perf_counter() + WARM_UP
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    counts: dict[str, int] = {}

    def once(name: str) -> None:
        if name not in counts:
            counts[name] = steps or max(1, min(MOST_STEPS, int(ROUND_SECONDS / contenders[name].seconds(20))))
        else:
            seconds[name].append(contenders[name].seconds(counts[name], enqueue))

    def in_turn(what: Callable[[str], object]) -> None:
        for name in list(contenders):
            try:
                what(name)
            except Exception as error:
                row.failed(name, error)
                del contenders[name], seconds[name]

    while contenders and time.perf_counter() < end:
        in_turn(lambda name: contenders[name].seconds(1))
    for _ in range((ROUNDS if rounds is None else rounds) + 1):  # the first finds the counts
        in_turn(once)
    return seconds


def compare(row: Row, seconds: Mapping[str, list[float]], unit: str, scale: float, targets: Mapping[str, float]):
    """Put all times into the row, as medians, with the ratios to `ours`."""
    for name, values in seconds.items():
        against = None if name == "ours" or "ours" not in seconds else ratio(seconds, name, "ours")
        spread = {"low": min(values) * scale, "high": max(values) * scale}
        row.put(name, statistics.median(values) * scale, unit, ratio=against, target=targets.get(name), spread=spread)


def rate(row: Row, name: str, nbytes: float, seconds: Mapping[str, list[float]], contender: str) -> None:
    if contender in seconds:
        row.put(name, nbytes / statistics.median(seconds[contender]) / 1e9, "GB/s")


def values(n: int, dtype: Any, which: int) -> np.ndarray:
    """Small random numbers, which stay small under repeated steps; a block of them, to be repeated up to `n`."""
    random = np.random.default_rng(which).normal(scale=2.0**-20, size=min(n, BLOCK))
    return random.astype(dtype)


def finish() -> None:
    """Wait for the default stream, where everybody's work goes here (but JAX's)."""
    driver.current().synchronize(0, DEFAULT_STREAM)
