"""Steps, fits, shapes, lists, bound steps, refusals, whole problems, again and again: resident memory stays flat.

Each case runs in a process of its own.  A tenth of its calls is the warm-up; over the others the resident memory may
grow by `ALLOWED`.  Of each newly compiled function Numba keeps something for ever (types, what its registries know of
it); so for problems with new compiled functions the same is measured of Numba alone, and told.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import nagd_numba

from . import Result
from ._children import PATIENCE, run

ALLOWED = 5.0  # MB
SHORT, LONG = 3_000, 1_000_000  # steps; of the others the share that `CASES` tells
WARM = 20  # calls at least, in which every kernel of a case is loaded
OF_NUMBA = "a new function of Numba's alone", "minimize of a new compiled function"
PATIENT = 30  # seconds for each function that is compiled
KEPT = 128  # functions, of which what was compiled for them is kept: more must come before memory is flat
TIMES_NUMBA = 16  # compiled functions that a problem may need of its own, beside the user's


def trial(count: int, seed: int, folder: Path) -> Result:
    """Each case, `count` times and its share of that."""
    lost, calls, each = [], 0, {}
    for name, (_, share) in CASES.items():
        times = max(2 if name in OF_NUMBA else 2 * WARM, round(count * share))
        code = f"from tests.reliability.leaks import child; child({name!r}, {times}, {seed}, {str(folder)!r})"
        ended = run(code, patience=max(PATIENCE, PATIENT * times if name in OF_NUMBA else 0))
        if ended.fault:
            lost.append(f"{name}, {times} times: {ended.fault}")
            continue
        grown, counted = json.loads(ended.out.splitlines()[-1])
        calls += times
        if name in OF_NUMBA:
            each[name] = 1e3 * grown / max(counted, 1)
        elif grown > ALLOWED:
            lost.append(f"{name}: {grown:.1f} MB more after {counted:,} calls, seed {seed}")
    told = ", ".join(f"{x:.0f} kB for {name}" for name, x in each.items())
    if len(each) == 2 and count >= LONG // 4 and each[OF_NUMBA[1]] > TIMES_NUMBA * max(each[OF_NUMBA[0]], 10.0):
        lost.append(f"memory of compiled functions: {told}")
    return Result(f"calls of {len(CASES)} kinds in flat memory ({told})", calls, tuple(lost))


def child(name: str, times: int, seed: int, folder: str) -> None:
    """One case: tells the MB that it grew by, and the calls in which it did."""
    call = CASES[name][0](np.random.default_rng(seed), Path(folder))
    warm = max(times // 10, min(WARM, times // 2))
    if name in OF_NUMBA and times > 2 * KEPT:
        warm = KEPT + 10
    for k in range(warm):
        call(k)
    before = resident()
    for k in range(warm, times):
        call(k)
    print(json.dumps([resident() - before, times - warm]))


def resident() -> float:
    """The resident memory of this process, in MB."""
    gc.collect()
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


Call = Callable[[int], Any]


def steps(rng: Any, folder: Path) -> Call:
    arrays = [rng.normal(size=100) for _ in range(3)]
    return lambda k: nagd_numba.step(*arrays, lr=0.01)


def adaptive_steps(rng: Any, folder: Path) -> Call:
    p, g, m, v = np.abs(rng.normal(size=(4, 100)))
    return lambda k: nagd_numba.adam_step(p, g, m, v, k + 1)


def composed_steps(rng: Any, folder: Path) -> Call:
    p, g, m, v = np.abs(rng.normal(size=(4, 100)))
    mask, mean, guard = p > 0.5, nagd_numba.Average(p), nagd_numba.Guard(clip_norm=1.0)

    def call(k: int) -> None:
        nagd_numba.adam_step(p, g, m, v, k + 1, mask=mask, upper=2.0, average=mean)
        nagd_numba.step(p, g, m, guard=guard)

    return call


def stored_steps(rng: Any, folder: Path) -> Call:
    p, g = rng.normal(size=(2, 100)).astype(np.float16)
    rounding = nagd_numba.StochasticRounding(1)

    def call(k: int) -> None:
        m, v = nagd_numba.int8_states(nagd_numba.adam_step, p)
        nagd_numba.adam_step(p, g, m, v, 1, rounding=rounding)

    return call


def shapes(rng: Any, folder: Path) -> Call:
    def call(k: int) -> None:
        shape = tuple(1 + rng.integers(0, (999, 99, 15, 9)[k % 4], 1 + k % 4))
        arrays = [rng.normal(size=shape).astype((np.float32, np.float64)[k // 4 % 2]) for _ in range(3)]
        nagd_numba.step(*arrays, lr=0.01)
        nagd_numba.step(*(np.repeat(x, 2, axis=0)[::2] for x in arrays))

    return call


def lists(rng: Any, folder: Path) -> Call:
    def call(k: int) -> None:
        columns = [[np.ones(3 + j % 5) for j in range(1000)] for _ in range(3)]
        nagd_numba.step(*columns)

    return call


def bound_steps(rng: Any, folder: Path) -> Call:
    def call(k: int) -> None:
        arrays = [np.ones(10 + k % 100) for _ in range(3)]
        take = nagd_numba.bind(nagd_numba.step, *arrays, lr=0.1)
        take()
        take(0.2)

    return call


def refusals(rng: Any, folder: Path) -> Call:
    p, g, v = (np.ones(10) for _ in range(3))

    def call(k: int) -> None:
        for given in ((p, g[:5], v, 0.1), (p, g, v, -1.0), (p, p, v, 0.1), (p, None, v, 0.1), (p, g, v, float("nan"))):
            try:
                nagd_numba.step(*given)
            except (TypeError, ValueError):
                continue
            raise AssertionError(given)

    return call


def rows(rng: Any, folder: Path) -> Call:
    params, vel, last = np.ones((50, 4)), np.zeros((50, 4)), np.zeros(50, np.int64)

    def call(k: int) -> None:
        here = rng.permutation(50)[:5]
        nagd_numba.step_rows(params, here, np.ones((5, 4)), vel, last, k + 1)

    return call


def fits(rng: Any, folder: Path) -> Call:
    X = rng.normal(size=(64, 6)).astype(np.float32)
    y = X[:, :3].argmax(axis=1)

    def call(k: int) -> None:
        net = nagd_numba.MLP([6, 5 + k % 7, 3])
        params = net.init(k)
        net.fit(params, X, y, epochs=2, batch_size=16, validation=0.25, metrics=["accuracy"])
        net.predict(params, X)

    return call


def fits_at_once(rng: Any, folder: Path) -> Call:
    X = rng.normal(size=(64, 6)).astype(np.float32)
    y = X[:, :3].argmax(axis=1)

    def call(k: int) -> None:
        net = nagd_numba.MLP([6, 5 + k % 7, 3])
        nagd_numba.fit_many(net, np.stack([net.init(j) for j in range(4)]), X, y, epochs=1)

    return call


def files(rng: Any, folder: Path) -> Call:
    def call(k: int) -> None:
        nagd_numba.save_states(folder / "states.npz", p=np.ones(100, np.float32), v=np.ones(100, np.float32))
        nagd_numba.load_states(folder / "states.npz")

    return call


def minimized_in_python(rng: Any, folder: Path) -> Call:
    def call(k: int) -> None:
        target = rng.normal(size=3)
        nagd_numba.minimize(lambda x: (float(np.sum((x - target) ** 2)), 2 * (x - target)), np.zeros(3), jac=True)

    return call


def _new_function(k: int) -> Any:
    from numba import njit

    @njit
    def fun(x: Any) -> Any:
        return np.sum((x - k) ** 2), 2 * (x - k)

    return fun


def functions_of_numba(rng: Any, folder: Path) -> Call:
    return lambda k: _new_function(k)(np.zeros(3))


def minimized_compiled(rng: Any, folder: Path) -> Call:
    return lambda k: nagd_numba.minimize(_new_function(k), np.zeros(3), jac=True)


CASES: dict[str, tuple[Callable[[Any, Path], Call], float]] = {
    "step": (steps, 1.0),
    "adam_step": (adaptive_steps, 1.0),
    "composed and guarded steps": (composed_steps, 0.02),
    "steps of small storage": (stored_steps, 0.02),
    "steps of 1,000 shapes": (shapes, 0.005),
    "lists of 1,000 arrays": (lists, 0.001),
    "bind": (bound_steps, 0.05),
    "refusals": (refusals, 0.02),
    "steps of rows": (rows, 0.05),
    "fit": (fits, 0.01),
    "fit_many": (fits_at_once, 0.002),
    "files of states": (files, 0.005),
    "minimize of new functions in Python": (minimized_in_python, 0.001),
    OF_NUMBA[0]: (functions_of_numba, 0.001),
    OF_NUMBA[1]: (minimized_compiled, 0.001),
}

if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]), 0, "/tmp")
