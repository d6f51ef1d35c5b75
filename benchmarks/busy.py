"""`python -m benchmarks.busy`: calls on an idle machine, and on one whose cores other processes hold.

For each length the mean of the calls of a second or more, of `step`, of its serial kernel and of its parallel kernel,
in turns; then the same with as many busy processes as there are cores.  The last columns are what `step` takes beside
the better of the two kernels, and beside the serial one.  `mpiexec -n 2 python -m benchmarks.busy --idle` has the ranks
of a job get into each other's way instead.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from nagd_numba.bench.memory import vectors
from nagd_numba.bench.steps import our_kernel, ours

SIZES = (10_000, 40_000, 100_000, 300_000, 1_000_000, 10_000_000)
ROUNDS = 40
SECONDS = 0.03  # of the calls of one contender in one round


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other processes that never rest."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(0.5 if running else 0.0)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def means(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of a call of each, in turns; the first round warms up."""
    taken = dict.fromkeys(calls, 0.0)
    made = dict.fromkeys(calls, 0)
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            count, took = 0, 0.0
            while took < SECONDS:
                call()
                count += 1
                took = time.perf_counter() - begin
            if turn > 0:
                taken[name] += took
                made[name] += count
    return {name: taken[name] / made[name] for name in calls}


def table(title: str) -> None:
    print(f"{title}\n{'n':>10} {'step':>10} {'serial':>10} {'parallel':>10}  us   step/best  step/serial")
    for n in SIZES:
        arrays = vectors(n, "float32")
        found = means(
            {
                "step": ours(arrays),
                "serial": our_kernel(False, arrays),
                "parallel": our_kernel(True, arrays),
            }
        )
        step, serial, parallel = found.values()
        ratios = f"{step / min(serial, parallel):12.2f} {step / serial:12.2f}"
        print(f"{n:>10,} {step * 1e6:10.1f} {serial * 1e6:10.1f} {parallel * 1e6:10.1f}  {ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idle", action="store_true", help="only with the machine as it is")
    parser.add_argument("--loaded", action="store_true", help="only with busy processes")
    given = parser.parse_args()
    cores = os.cpu_count() or 1
    if not given.loaded:
        table(f"As the machine is, {cores} cores")
    if not given.idle:
        with busy(cores):
            table(f"With {cores} busy processes")


if __name__ == "__main__":
    main()
