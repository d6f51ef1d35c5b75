"""`python -m benchmarks.crossover`: from which size on the parallel kernel wins (`kernels.forms.PARALLEL_FROM`)."""

import functools

import numpy as np

from nagd_numba.bench.memory import vectors as arrays
from nagd_numba.bench.timing import interleaved, ratio
from nagd_numba.kernels.forms import ALWAYS_PARALLEL, PARALLEL_FROM
from nagd_numba.kernels.segments import Step, Table
from nagd_numba.optimizers.registry import RULES


def main() -> None:
    rule = RULES["nesterov"]
    hyper = (0.01, 0.9, 0.9, 0.0)
    print(f"PARALLEL_FROM is {PARALLEL_FROM:,}.  Serial time over parallel time:")
    for dtype in ("float32", "float64"):
        kernels = {
            "serial": Step(rule, rule.defaults(), np.dtype(dtype), None),
            "parallel": Step(rule, rule.defaults(), np.dtype(dtype), ALWAYS_PARALLEL),
        }
        for n in (10_000, 20_000, 30_000, 40_000, 60_000, 80_000, 100_000, 150_000, 200_000):
            p, g, v = arrays(n, dtype)
            table = Table.of([(p, g, v)])
            calls = {name: functools.partial(kernel, table, hyper) for name, kernel in kernels.items()}
            seconds = interleaved(calls)
            serial, parallel = (np.median(seconds[name]) * 1e6 for name in ("serial", "parallel"))
            gain = ratio(seconds, "serial", "parallel")
            print(f"{dtype} {n:>9,}  serial {serial:8.2f} us  parallel {parallel:8.2f} us  ratio {gain:.2f}")


if __name__ == "__main__":
    main()
