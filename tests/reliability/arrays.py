"""Arrays that lie, overlap, are misaligned, mapped, shared or very long: the bits of plain ones, or refused unchanged.

A trial draws a step, a way to call it, one of its arrays and a trouble (`_troubles.TROUBLES`) for that.  What comes of
it must be what plain arrays give, or an error, after which nothing has changed.  As often as for a figure, arrays of
more than 2^31 bytes and elements follow (`_huge.CASES`), each in a process of its own.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

import nagd_numba

from . import Result
from ._children import run
from ._huge import CASES as HUGE

SHORT, LONG = 150, 20_000
AT_ONCE = 5_000  # trials of a process


def trial(count: int, seed: int, folder: Path) -> Result:
    """So many drawn troubles; then, if they are many, what is huge."""
    lost, told = [], {"right": 0, "refused": 0}
    for first in range(0, count, AT_ONCE):
        last = min(count, first + AT_ONCE)
        ended = run(f"from tests.reliability.arrays import child; child({first}, {last}, {seed}, {str(folder)!r})")
        if ended.fault:
            lost.append(f"seed {seed}, trials {first} to {last}: {ended.fault} {ended.out.splitlines()[-1:]}")
            continue
        said = json.loads(ended.out.splitlines()[-1])
        lost += said.pop("lost")
        told = {x: told[x] + said[x] for x in told}
    huge = list(HUGE) if count >= LONG // 2 else []
    for name in huge:
        ended = run(f"from tests.reliability._huge import CASES; CASES[{name!r}]()")
        if ended.fault:
            lost.append(f"{name}: {ended.fault}")
    shrunk = run(f"from tests.reliability.arrays import shrinks; shrinks({str(folder)!r})")
    if shrunk.status != -signal.SIGBUS:
        lost.append(f"a memory map of a file that is cut off should end by SIGBUS, as documented: {shrunk}")
    what = f"troubles with arrays ({told['right']:,} right, {told['refused']:,} refused), {len(huge)} of huge ones"
    return Result(what, count + len(huge), tuple(lost))


def child(first: int, last: int, seed: int, folder: str) -> None:
    """Trials by number; told as JSON on the last line."""
    from ._troubles import NOT_FOR_COMPILED_CODE, TROUBLES

    lost, told = [], {"right": 0, "refused": 0}
    for k in range(first, last):
        rng = random.Random(1_000_003 * seed + k)
        way, (trouble, make) = rng.choice(list(WAYS)), rng.choice(list(TROUBLES.items()))
        if k % 10 == 0 and trouble not in NOT_FOR_COMPILED_CODE:  # seldom: each kind of array compiles
            way = COMPILED
        step, run_step = WAYS.get(way, (nagd_numba.step, _compiled))
        adam = step is nagd_numba.adam_step
        shape = rng.choice([(7,), (130,), (5_000,), (3, 5), (20, 30)])
        dtype = np.dtype(rng.choice(["float32", "float64"]))
        where = rng.randrange(4 if adam else 3)
        what = f"seed {seed}, trial {k}: {trouble} at {where} of {way}, {shape} {dtype}"
        print(what, flush=True)
        values = np.random.default_rng(k).normal(size=(4 if adam else 3, *shape)).astype(dtype)
        plain = list(np.abs(values))
        given = [x.copy() for x in plain]
        given[where], memory, outcomes = make(given[where], where == 1, rng, Path(folder))
        before = [np.array(x) for x in (*given[:where], memory, *given[where + 1 :])]
        came = "right"
        try:
            run_step(step, given)
        except (TypeError, ValueError, RuntimeError, BufferError, nagd_errors()) as error:
            came = "refused"
            if not str(error):
                lost.append(f"{what}: an error without a word, {error!r}")
        except Exception as error:
            came = "wrong"
            lost.append(f"{what}: {error!r}"[:400])
        after = [np.array(x) for x in (*given[:where], memory, *given[where + 1 :])]
        if came == "right":
            run_step(step, plain)
        expected = plain if came == "right" else before
        if came != "wrong" and not all(x.tobytes() == y.tobytes() for x, y in zip(after, expected, strict=True)):
            lost.append(f"{what}: {came}, and the bits are others")
        elif came in told and came not in outcomes:
            lost.append(f"{what}: {came}; {' or '.join(outcomes)} is needed")
        elif came in told:
            told[came] += 1
    print(json.dumps({"lost": lost, **told}))


def nagd_errors() -> type[Exception]:
    """What Numba raises for an array that compiled code cannot take."""
    from numba.core.errors import NumbaError

    return NumbaError


def shrinks(folder: str) -> None:
    """A step on a mapped file that becomes shorter."""
    path = Path(folder) / "mapped"
    path.write_bytes(bytes(1 << 20))
    p = np.memmap(path, np.float32, "r+")
    nagd_numba.step(p, np.ones_like(p), np.zeros_like(p))
    with path.open("r+b") as file:
        file.truncate(4096)
    nagd_numba.step(p, np.ones(p.shape, p.dtype), np.zeros(p.shape, p.dtype))


def _numbers(step: Any) -> tuple[Any, ...]:
    return (3,) if step is nagd_numba.adam_step else ()


def _plain(step: Any, arrays: list[Any]) -> None:
    for _ in range(2):
        step(*arrays, *_numbers(step))


def _listed(step: Any, arrays: list[Any]) -> None:
    step(*([x, np.ones(3)] for x in arrays), *_numbers(step))


def _bound(step: Any, arrays: list[Any]) -> None:
    take = nagd_numba.bind(step, *arrays)
    take()
    take()


def _composed(step: Any, arrays: list[Any]) -> None:
    step(*arrays, *_numbers(step), lower=0.1, upper=2.0)


@njit
def _step_in_compiled_code(p: Any, g: Any, v: Any) -> None:
    nagd_numba.step(p, g, v)


def _compiled(step: Any, arrays: list[Any]) -> None:
    _step_in_compiled_code(*arrays)


WAYS: dict[str, tuple[Any, Callable[[Any, list[Any]], None]]] = {
    "step": (nagd_numba.step, _plain),
    "adam_step": (nagd_numba.adam_step, _plain),
    "step of lists": (nagd_numba.step, _listed),
    "a bound step": (nagd_numba.step, _bound),
    "a bound adam_step": (nagd_numba.adam_step, _bound),
    "a composed step": (nagd_numba.step, _composed),
}
COMPILED = "a step in compiled code"
