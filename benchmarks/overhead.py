"""What is around the kernels: calls, checks, import, the first call, compilation, memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from . import common

CALLS = {  # name: what is called, with x, g, v of ten elements each
    "step": "nagd_numba.step(x, g, v)",
    "step, all options by name": "nagd_numba.step(x, g, v, lr=0.01, momentum=0.9, momentum_next=0.9, nesterov=True)",
    "step, checked in full": "nagd_numba.step(strided[0], strided[1], strided[2])",
    "step, lists": "nagd_numba.step([x], [g], [v])",
    "bound step": "bound()",
    "bound step, another rate": "bound(lr=0.02)",
    "a function of Python": "nothing(x, g, v)",
}
FIRST = {  # name: what a fresh process does first
    "step, one thread": "nagd_numba.step(*(np.ones(10, np.float32) for _ in range(3)))",
    "step, all threads": "nagd_numba.step(*(np.ones(100_000, np.float32) for _ in range(3)))",
    "value_and_grad": "net.value_and_grad(net.init(0), X, y)",
    "fit": "net.fit(net.init(0), X, y, epochs=1)",
    "predict": "net.predict(net.init(0), X)",
}
READY = (
    "import time, numpy as np, nagd_numba; net = nagd_numba.MLP([4, 8, 3]); "
    "X = np.ones((64, 4), np.float32); y = np.arange(64) % 3; start = time.perf_counter(); {}; "
    "print(time.perf_counter() - start)"
)
IMPORT = "import time, numba; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
IMPORTS = ("nagd_numba", "nagd_numba.mlp")
if common.QUICK:
    FIRST = {"step, one thread": FIRST["step, one thread"]}
RUNS = 1 if common.QUICK else 5


def fresh(code: str, cache: str) -> float:
    """What a fresh process prints, with its compiled kernels in the folder `cache`."""
    env = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return float(done.stdout.split()[-1])


class Call:
    """Seconds of a call on ten elements: the call itself, its checks, its way to the kernel."""

    params = (tuple(CALLS),)
    param_names = ("call",)
    timeout = 120

    def setup_cache(self) -> common.Results:
        import numpy as np

        import nagd_numba

        names = {
            "nagd_numba": nagd_numba,
            "nothing": lambda *_: None,
            "strided": [np.zeros(20, np.float32)[::2] for _ in range(3)],
            **{name: np.zeros(10, np.float32) for name in "xgv"},
        }
        names["bound"] = nagd_numba.bind(nagd_numba.step, names["x"], names["g"], names["v"])
        calls = {name: eval(f"lambda: {code}", names) for name, code in CALLS.items()}
        return {"all": common.Found(common.harness("timing").interleaved(calls), {})}

    setup_cache.timeout = 600

    def track_seconds(self, found, call):
        return found["all"].median(call)

    track_seconds.unit = "seconds"


class Import:
    """Seconds that an import takes where numba is imported already; the median of some fresh processes."""

    params = (IMPORTS,)
    param_names = ("module",)
    timeout = 120

    def track_seconds(self, module):
        with tempfile.TemporaryDirectory() as cache:
            return statistics.median([fresh(IMPORT.format(module), cache) for _ in range(RUNS + 1)][1:])

    track_seconds.unit = "seconds"


class FirstCall:
    """Seconds of the first call in a fresh process: with an empty cache (it compiles), and with the kernels there."""

    params = (tuple(FIRST),)
    param_names = ("what",)
    timeout = 120

    def setup_cache(self) -> common.Results:
        results = {}
        for name, code in FIRST.items():
            with tempfile.TemporaryDirectory() as cache:
                cold = fresh(READY.format(code), cache)
                cached = [fresh(READY.format(code), cache) for _ in range(RUNS)]
            results[name] = common.Found({"compiled": [cold], "cached": cached}, {})
        return results

    setup_cache.timeout = 600

    def track_seconds_compiled(self, found, what):
        return found[what].median("compiled")

    track_seconds_compiled.unit = "seconds"

    def track_seconds_cached(self, found, what):
        return found[what].median("cached")

    track_seconds_cached.unit = "seconds"


class Train:
    """Seconds of `nagd-numba train` as a whole process, with nothing in the cache, and with the kernels there."""

    timeout = 300

    def setup_cache(self) -> common.Results:
        with tempfile.TemporaryDirectory() as cache:
            cold, *warm = (self.train(cache) for _ in range(RUNS + 1))
        return {"all": common.Found({"cold": [cold], "warm": warm}, {})}

    setup_cache.timeout = 600

    @staticmethod
    def train(cache: str) -> float:
        env = {**os.environ, "NUMBA_CACHE_DIR": cache}
        short = ["--epochs", "1"] if common.QUICK else []
        start = time.perf_counter()
        command = [sys.executable, "-m", "nagd_numba", "train", *short]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=env)
        return time.perf_counter() - start

    def track_seconds_cold(self, found):
        return found["all"].median("cold")

    track_seconds_cold.unit = "seconds"

    def track_seconds_warm(self, found):
        return found["all"].median("warm")

    track_seconds_warm.unit = "seconds"


class Memory:
    """Bytes of memory at most, of a process that trains (64-128-10, 20 epochs on the digits) or only imports."""

    timeout = 300

    def peakmem_import(self):
        import nagd_numba

        nagd_numba.MLP([64, 128, 10])

    def peakmem_training(self):
        digits, training = common.harness("digits"), common.harness("training")
        (train,) = training.train_ours(digits.Case(32, 128)).values()
        train()
