"""`python -m benchmarks.composition [n]`: what masks, bounds, averages, groups and rates cost beside the plain step.

Bound steps of float32, in turns; for each the bytes of an element that it moves, the ratio of its time to the plain
step's, and the ratio of their bytes, which is what it must cost where memory is all that counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import nagd_numba
from nagd_numba.bench.timing import interleaved, ratio
from nagd_numba.optimizers.registry import OPTIMIZERS

SEGMENTS = 50


def contenders(name: str, n: int) -> dict[str, tuple[float, Callable[[], object]]]:
    """The bytes that each moves for an element, and its step."""
    rng = np.random.default_rng(0)
    optimizer = OPTIMIZERS[name]
    plain = 4.0 * (3 + 2 * len(optimizer.rule.states))

    def array() -> np.ndarray:
        return (rng.random(n) + 0.5).astype(np.float32)

    def bound(**settings: Any) -> Callable[[], object]:
        return nagd_numba.bind(optimizer.step, array(), array(), *(array() for _ in optimizer.rule.states), **settings)

    layout = [(f"s{k}", (size,)) for k, size in enumerate(np.diff(np.linspace(0, n, SEGMENTS + 1).astype(int)))]
    flats = [nagd_numba.FlatParams(layout, flat=array()) for _ in range(2 + len(optimizer.rule.states))]
    groups = {segment: {"lr": 0.01 + 1e-4 * k} for k, (segment, _) in enumerate(layout)}
    half = rng.random(n) < 0.5
    made = {
        "plain": (plain, bound()),
        f"{SEGMENTS} groups": (plain, nagd_numba.bind(optimizer.step, *flats, groups=groups)),
        "mask of ones": (plain + 1, bound(mask=np.ones(n, bool))),
        "mask of half": (plain + 1, bound(mask=half)),
        "bounds, numbers": (plain, bound(lower=-1e3, upper=1e3)),
        "bounds, arrays": (plain + 8, bound(lower=array() - 1e3, upper=array() + 1e3)),
        "prox l1": (plain, bound(prox="l1", prox_weight=0.01)),
        "average": (plain + 8, bound(average=nagd_numba.Average(array(), decay=0.99))),
        "lr, array": (plain + 4, bound(lr=0.01 * array())),
        "mask, bounds, average": (
            *(plain + 9,),
            bound(mask=half, lower=-1e3, upper=1e3, average=nagd_numba.Average(array())),
        ),
    }
    return made


def main() -> None:
    """Print a table for Nesterov's step and for Adam's."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("n", nargs="?", type=int, default=1_000_000)
    given = parser.parse_args()
    for name in ("nesterov", "adam"):
        made = contenders(name, given.n)
        seconds = interleaved({label: call for label, (_, call) in made.items()})
        bytes_of_plain = made["plain"][0]
        print(f"{name}, n = {given.n:,}, float32")
        for label, (moved, _) in made.items():
            took = ratio(seconds, label, "plain")
            least = moved / bytes_of_plain
            print(f"  {label:24s} {moved:5.1f} bytes {took:8.3f} of the plain step, by bytes {least:6.3f}")


if __name__ == "__main__":
    main()
