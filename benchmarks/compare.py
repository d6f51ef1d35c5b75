"""`python -m benchmarks.compare [n ...]`: the step against NumPy, torch and the memory itself, as ratios.

Above 1 in a column: ours is that many times faster.  `moved bytes` compares with a kernel that only moves the same
bytes: 1 is the limit of the memory (below the size of the caches that kernel's own call dominates).
"""

import argparse
import os
import platform

import numba
import numpy as np
from rich.console import Console
from rich.table import Table

import nagd_numba
from nagd_numba.apply import use_parallel

from .common import NumPyStep, interleaved, move_parallel, move_serial, ratio, torch_step, vectors

SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000)


def measure(n: int, dtype: str) -> dict[str, list[float]]:
    """Seconds per call and round of every contender at one size."""
    p, g, v = vectors(n, dtype)
    contenders = {"ours": lambda: nagd_numba.step(p, g, v)}
    contenders["NumPy"] = NumPyStep(*vectors(n, dtype))
    mover = move_parallel if use_parallel(n) else move_serial
    bytes_only = vectors(n, dtype)
    contenders["moved bytes"] = lambda: mover(*bytes_only)
    for name, options in (("torch fused", {"fused": True}), ("torch foreach", {"foreach": True})):
        call = torch_step(p, g, **options)
        if call is not None:
            contenders[name] = call
    return interleaved(contenders)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, metavar="n")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    options = parser.parse_args()
    table = Table(
        title=f"step, {options.dtype}: {platform.machine()}, {os.cpu_count()} cores, numba {numba.__version__}, "
        f"NumPy {np.__version__}",
        caption="ratios: above 1, ours is faster",
    )
    for column in ("n", "ours (us)", "NumPy", "torch fused", "torch foreach", "moved bytes"):
        table.add_column(column, justify="right")
    for n in options.sizes:
        seconds = measure(n, options.dtype)
        row = [f"{n:,}", f"{np.median(seconds['ours']) * 1e6:,.2f}"]
        for other in ("NumPy", "torch fused", "torch foreach", "moved bytes"):
            row.append(f"{ratio(seconds, other, 'ours'):.2f}" if other in seconds else "n/a")
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
