"""`python -m benchmarks.busy`: calls on an idle machine, and on one whose cores other processes hold.

For each length the mean of the calls of a second or more, of `step`, of its serial kernel and of its parallel kernel,
in turns; then the same with as many busy processes as there are cores.  The last columns are what `step` takes beside
the better of the two kernels, and beside the serial one.  The same for `predict` and `minimize_many`, beside themselves
without threads.  `mpiexec -n 2 python -m benchmarks.busy --idle` has the ranks of a job get into each other's way.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

import numpy as np

import nagd_numba
from nagd_numba.bench.memory import vectors
from nagd_numba.bench.steps import our_kernel, ours
from nagd_numba.minimizer import many
from nagd_numba.minimizer.many import minimize_many
from nagd_numba.mlp import inference

from .minimize_many import TIMES, decay, problems

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


def without_threads(module: ModuleType, name: str, call: Callable[[], object]) -> Callable[[], object]:
    """A call for which the function of this name in a module says that threads may not run."""
    usual = getattr(module, name)

    def run() -> object:
        setattr(module, name, lambda: False)
        try:
            return call()
        finally:
            setattr(module, name, usual)

    return run


def others() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Calls, and the same without threads."""
    random, made = np.random.default_rng(0), {}
    net = nagd_numba.MLP([64, 128, 10])
    params = net.init(seed=0)
    for rows in (1_000, 4_000, 16_000):
        call = partial(net.predict, params, random.random((rows, 64), np.float32))
        made[f"predict, {rows:,} rows"] = call, without_threads(inference, "threads_may_run", call)
    for count in (20, 200, 2_000):
        signals, starts = problems(2, count)
        call = partial(minimize_many, decay, starts, (signals,), (TIMES,), jac=True)
        made[f"minimize_many, {count:,} fits"] = call, without_threads(many, "parallel_allowed", call)
    return made


def table_of_others(title: str) -> None:
    print(f"{title}\n{'':28}{'ours':>10} {'one thread':>10}  us   ours/one thread")
    for name, (call, alone) in others().items():
        ours_, one = means({"ours": call, "one": alone}).values()
        print(f"{name:28}{ours_ * 1e6:10.0f} {one * 1e6:10.0f} {ours_ / one:17.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idle", action="store_true", help="only with the machine as it is")
    parser.add_argument("--loaded", action="store_true", help="only with busy processes")
    given = parser.parse_args()
    cores = os.cpu_count() or 1
    if not given.loaded:
        table(f"As the machine is, {cores} cores")
        table_of_others("As it is")
    if not given.idle:
        with busy(cores):
            table(f"With {cores} busy processes")
            table_of_others("With them")


if __name__ == "__main__":
    main()
