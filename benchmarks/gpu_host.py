"""What a step on device arrays costs the host, beside the driver's own work.

    python -m benchmarks.gpu_host

On a machine with a device on that; elsewhere on a libcuda that does nothing (`gpu_host_driver.c`, built by the C
compiler).  The contenders take turns in one process; of each the fastest round counts, in the thread's own time.  The
driver's own work is that of a launch among a thousand that one compiled call starts, and is subtracted.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("gpu_host_driver.c")
ROUNDS, CALLS = 300, 200
STEP_US, BOUND_US = 2.5, 1.2  # what is aimed at
INSIDE = "NAGD_NUMBA_NO_DRIVER"  # set in the process that has the driver that does nothing


def with_a_driver_that_does_nothing(module: str = "benchmarks.gpu_host") -> int:
    """Run a module in a process whose libcuda does nothing."""
    compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None:
        raise SystemExit("there is no device, and no C compiler to make a driver that does nothing")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libcuda.so.1"
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        env = {**os.environ, "LD_LIBRARY_PATH": folder, "NUMBA_CUDA_DRIVER": str(library), INSIDE: "1"}
        return subprocess.run([sys.executable, "-m", module], env=env).returncode


def contenders() -> dict[str, tuple[Callable[[], object], int, float | None]]:
    """What is called, how many launches that makes, and the microseconds that each may take."""
    from numba import cuda

    import nagd_numba
    from nagd_numba.optimizers.bound import bind

    def arrays(n: int, count: int = 3) -> list[object]:
        return [cuda.to_device(np.ones(n, np.float32)) for _ in range(count)]

    three, four, stream = arrays(1024), arrays(1024, 4), cuda.stream()
    groups = [arrays(16) for _ in range(1000)]
    columns = [arrays(16, 100) for _ in range(3)]
    rates, numbers = itertools.cycle([0.01, 0.02, 0.03]), itertools.count(1)
    step, adam_step = nagd_numba.step, nagd_numba.adam_step
    bound, on_stream = bind(step, *three), bind(step, *three, stream=stream)
    adam, many = bind(adam_step, *four), bind(step, *columns)

    def one_by_one(chosen: list[list[object]]) -> Callable[[], None]:
        def steps() -> None:
            for group in chosen:
                step(*group)

        return steps

    return {
        "step": (lambda: step(*three), 1, STEP_US),
        "step, another lr each time": (lambda: step(*three, next(rates)), 1, STEP_US),
        "step, a stream of Numba's": (lambda: step(*three, stream=stream), 1, None),
        "adam_step, t counts": (lambda: adam_step(*four, next(numbers)), 1, STEP_US),
        "bound step": (bound, 1, BOUND_US),
        "bound step, another lr each time": (lambda: bound(next(rates)), 1, BOUND_US),
        "bound step on a stream": (on_stream, 1, BOUND_US),
        "bound adam_step, t counts": (lambda: adam(next(numbers)), 1, BOUND_US),
        "10 arrays one by one": (one_by_one(groups[:10]), 10, STEP_US),
        "1000 arrays one by one": (one_by_one(groups), 1000, STEP_US),
        "a list of 100 arrays": (lambda: step(*columns), 1, None),
        "a bound list of 100 arrays": (many, 1, None),
    }


def own_work() -> Callable[[], None]:
    """A thousand launches by one call, of a kernel as those of a step."""
    from nagd_numba.gpu import driver, elementwise
    from nagd_numba.optimizers.registry import RULES

    here, rule = driver.current(), RULES["nesterov"]
    loaded = here.load(elementwise.kernel(rule, rule.defaults(), "float32", False, False), 0)
    arguments = (0, 0, 0, 0, np.int64(0), np.int64(0), *[np.float32(0)] * rule.constant_count)
    table = np.tile(here.record(loaded, 0, here.configuration(1, 256), *arguments), (1000, 1))
    return lambda: here.start(0, table)


def microseconds(call: Callable[[], object], times: int) -> float:
    start = time.thread_time()
    for _ in range(times):
        call()
    return (time.thread_time() - start) / times * 1e6


def main() -> int:
    from nagd_numba.gpu.driver import why_no_cuda

    if why_no_cuda() is not None and INSIDE not in os.environ:
        return with_a_driver_that_does_nothing()
    todo, driver_call = contenders(), own_work()
    found: dict[str, float] = dict.fromkeys(todo, float("inf"))
    own = float("inf")
    for _ in range(ROUNDS):
        own = min(own, microseconds(driver_call, 1) / 1000)
        for name, (call, launches, _) in todo.items():
            call()  # what the others left in the processor's cache is not theirs to pay, nor to gain
            found[name] = min(found[name], microseconds(call, max(1, CALLS // launches)) / launches)
    where = "a driver that does nothing" if INSIDE in os.environ else "a device"
    print(f"microseconds of the host for each step, on {where}; the driver's own work, {own:.3f}, is subtracted")
    for name, (_, _, limit) in todo.items():
        aim = "" if limit is None else f"  (aim {limit}{'' if found[name] - own <= limit else ': MISSED'})"
        print(f"{name:36} {found[name] - own:7.2f}{aim}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
