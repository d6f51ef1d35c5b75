"""How everything on the CPU is timed.

Contenders run in turn, in rounds, in one process, after a second of warm-up: a shared machine drifts by a factor of
two within a minute, an idle core starts slowly, and memory that was not touched lately has to be fetched anew.  What is
compared is the median over the rounds of the ratio within a round.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# For tests of the benchmarks themselves: everything runs, and the figures mean nothing.
QUICK = bool(os.environ.get("NAGD_NUMBA_QUICK_BENCH"))
WARM_UP = 0.05 if QUICK else 1.0
ROUNDS = 5 if QUICK else 15
ROUND_SECONDS = 0.001 if QUICK else 0.03
FEW_ROUNDS = 1 if QUICK else 5  # of what takes longer than ROUND_SECONDS by far
SETTLE = 0.05  # after their last work, threads spin: of OpenBLAS for 30 to 100 ms, of Dr.Jit 20 ms, of PyTorch 5 ms
LONGEST = 1.0  # that `settled` waits
MOST_CALLS = 20_000  # of one timing

Seconds = dict[str, list[float]]  # of a step of each contender, one value for each round


def settled(seconds: float = SETTLE) -> None:
    """Wait so long, and then until no other thread of this process has a core: what spins would take it from others."""
    time.sleep(seconds)
    end = time.perf_counter() + LONGEST
    while time.perf_counter() < end and _threads_run():
        time.sleep(0.005)


def _threads_run() -> bool:
    """Does another thread of this process run, or wait for a core?  False where the system does not tell."""
    own = str(threading.get_native_id())
    for stat in Path("/proc/self/task").glob("*/stat"):
        try:
            state = stat.read_text().rpartition(")")[2].split()[0]
        except OSError:  # the thread has ended
            continue
        if stat.parent.name != own and state == "R":
            return True
    return False


@dataclass(frozen=True)
class Repeated:
    """A call that makes several steps."""

    call: Callable[[], object]
    steps: int

    def __call__(self) -> object:
        return self.call()


def interleaved(contenders: Mapping[str, Callable[[], object]], rounds: int = ROUNDS, settle: float = 0.0) -> Seconds:
    """Seconds per step of each contender, one value for each round.

    The first call of each, which may compile, is before the warm-up.  Where contenders leave threads that spin,
    `settle` seconds pass, and more until the threads sleep, and a call that does not count, before each timing.
    """
    for call in contenders.values():
        call()
    end = time.perf_counter() + WARM_UP
    while True:
        for call in contenders.values():
            call()
        if time.perf_counter() >= end:
            break
    counts = {}
    for name, call in contenders.items():
        start = time.perf_counter()
        call()
        counts[name] = max(1, min(MOST_CALLS, int(ROUND_SECONDS / max(time.perf_counter() - start, 1e-7))))
    seconds: Seconds = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            count = counts[name]
            if settle:
                settled(settle)
                call()
            start = time.perf_counter()
            for _ in range(count):
                call()
            seconds[name].append((time.perf_counter() - start) / (count * getattr(call, "steps", 1)))
    return seconds


def ratio(seconds: Mapping[str, list[float]], slower: str, faster: str) -> float:
    """The median over the rounds of `slower / faster`: above 1 where `faster` deserves its name."""
    return statistics.median(a / b for a, b in zip(seconds[slower], seconds[faster], strict=True))
