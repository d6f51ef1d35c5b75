"""`python -m benchmarks.cold`: what the first use of everything costs, compilation included.

Each case runs in a process of its own with an empty kernel cache, several times; the cases take turns.  Keep the
machine idle meanwhile.  A warm run (the kernels are on the disk) is measured beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

DATA = """
import numpy as np
rng = np.random.default_rng(0)
X, y = rng.normal(size=(500, 64)).astype(np.float32), np.arange(500) % 10
import nagd_numba
net = nagd_numba.MLP([64, 128, 10])
params = net.init(0)
"""
# The seconds between two moments within the process, where only a part of it counts.
STEP = """
import time, numpy as np, nagd_numba
from numba import njit
@njit
def trivial(x):
    return x + 1
start = time.perf_counter()
trivial(1)
first = time.perf_counter()
nagd_numba.step(*(np.ones(1000, np.float32) for _ in range(3)))
second = time.perf_counter()
nagd_numba.step(*(np.ones(100_000, np.float32) for _ in range(3)))
third = time.perf_counter()
print(first - start, second - first, third - second)
"""
PROBLEM = """
import numpy as np, nagd_numba
from numba import njit
@njit
def fun(x, scales):
    return 0.5 * np.sum(scales * (x - 1) ** 2), scales * (x - 1)
scales = np.geomspace(0.01, 1, 5)
assert nagd_numba.minimize(fun, np.zeros(5), (scales,), jac=True).success
"""
ARRAYS = """
import numpy as np, nagd_numba
p, g, m, v, lr = (np.ones(1000, np.float32) for _ in range(5))
parts = {"lr": lr, "mask": p > 0, "lower": -p, "upper": 1.0, "prox": "l1", "prox_weight": 0.5}
parts["average"] = nagd_numba.Average(p)
"""
CASES = {
    "step": ARRAYS + "nagd_numba.step(p, g, v)",
    "step with bounds": ARRAYS + "nagd_numba.step(p, g, v, lower=-1.0, upper=1.0)",
    "step with all parts": ARRAYS + "nagd_numba.step(p, g, v, **parts)",
    "adam_step with all parts": ARRAYS + "nagd_numba.adam_step(p, g, m, v, 1, **parts)",
    "schedule_free_adamw_step": ARRAYS + "nagd_numba.schedule_free_adamw_step(p, g, m, v, 1)",
    "train, defaults": "train",
    "train, six methods": "train --methods gd,momentum,nag,adam,adamw,nadam",
    "MLP.fit": DATA + "net.fit(params, X, y, epochs=2)",
    "MLP.value_and_grad": DATA + "net.value_and_grad(params, X, y)",
    "minimize, jitted functions": PROBLEM,
    "fit_many": DATA + "nagd_numba.fit_many(net, np.stack([params] * 3), X, y, epochs=2)",
    "NesterovMLPClassifier.fit": DATA
    + "from nagd_numba.adapters.sklearn import NesterovMLPClassifier\n"
    + "NesterovMLPClassifier((32,), max_iter=200, random_state=0, tol=10.0).fit(X, y)",
}
PARTS = ("a trivial function", "first step after it", "first parallel step after that")


def command(case: str) -> list[str]:
    """What runs a case."""
    if case.startswith("train"):
        return [sys.executable, "-m", "nagd_numba", *case.split()]
    return [sys.executable, "-c", case]


def run(case: str, cache: str) -> tuple[float, str]:
    """Seconds of the whole process, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        command(case), env={**os.environ, "NUMBA_CACHE_DIR": cache}, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="of each case, of which the median is shown")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose names contain this")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    args = parser.parse_args()
    times: dict[str, list[float]] = {}
    for _ in range(args.runs):
        for name, case in CASES.items():
            if args.only in name:
                with tempfile.TemporaryDirectory() as cache:
                    for kind in ("cold", "warm"):
                        times.setdefault(f"{name}, {kind}", []).append(run(case, cache)[0])
        if any(args.only in part for part in PARTS):
            with tempfile.TemporaryDirectory() as cache:
                for part, seconds in zip(PARTS, map(float, run(STEP, cache)[1].split()), strict=True):
                    times.setdefault(part, []).append(seconds)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in medians.items():
        print(f"{name:40} {seconds:7.2f} s")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"medians": medians, "all": times}, file, indent=1)


if __name__ == "__main__":
    main()
