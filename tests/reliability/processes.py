"""Forks, spawned processes, forks in threads, loky, asyncio, signals, exits: no abort, no hang, equal bits.

A trial is one case (`CASES`) in a process of its own, under each of Numba's threading layers in turn.  Where the case
begins processes, their bits are compared with those of the parent.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import Result
from ._children import LAYERS, run
from ._signals import hear, storm

QUICK = ("step", "adam_step", "guarded", "bind", "rows", "network")  # calls that soon are ready to run
PATIENCE = 300  # seconds


def trial(count: int, seed: int, folder: Path) -> Result:
    """Processes, each with the next case and layer."""
    lost, absent = [], set()
    both = [(case, layer) for layer in LAYERS for case in CASES]
    for k in range(count):
        case, layer = both[(k + seed) % len(both)]
        code = f"from tests.reliability.processes import child; child({case!r}, {seed + k})"
        ended = run(code, layer, patience=PATIENCE)
        if ended.without_layer:
            absent.add(layer)
        elif ended.fault:
            lost.append(f"{case} under {layer}, seed {seed + k}: {ended.fault}")
    left_out = f"{', '.join(sorted(absent))}, which Numba cannot load here" if absent else ""
    return Result(f"cases of {len(CASES)} with processes and signals", count, tuple(lost), left_out)


def child(case: str, seed: int) -> None:
    """One trial; an exception is a loss."""
    CASES[case](seed)


def bits(given: tuple[str, int]) -> str:
    """Those of a call."""
    from ._calls import CALLS

    name, seed = given
    return CALLS[name](seed)


def everything(seed: int, names: tuple[str, ...] = QUICK) -> list[str]:
    """Those of several calls."""
    return [bits((name, seed)) for name in names]


def _pool(method: str, used: bool) -> Callable[[int], None]:
    """Processes of a pool, of a parent that has `used` the library before, or not."""

    def case(seed: int) -> None:
        before = everything(seed) if used else None
        with multiprocessing.get_context(method).Pool(2) as pool:
            there = pool.map_async(bits, [(name, seed) for name in QUICK] * 2).get(PATIENCE)
        after = everything(seed)
        assert there == after * 2, "the processes of the pool have other bits"
        assert before in (None, after), "the parent has other bits after the pool"

    return case


def loky(seed: int) -> None:
    """joblib's processes, then its threads."""
    import joblib

    here = everything(seed)
    for prefer in ("processes", "threads"):
        there = joblib.Parallel(n_jobs=2, prefer=prefer)(joblib.delayed(bits)((name, seed)) for name in QUICK)
        assert there == here, f"joblib's {prefer} have other bits"


def event_loop(seed: int) -> None:
    """Calls in threads of asyncio's, beside a loop that must go on, and hears of signals."""

    async def main() -> tuple[list[str], int, int]:
        turns, heard = 0, []
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.append, 1)
        calls = [asyncio.create_task(asyncio.to_thread(bits, (name, seed))) for name in QUICK]
        while not all(x.done() for x in calls):
            turns += 1
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.sleep(0.01)
        return [x.result() for x in calls], turns, len(heard)

    there, turns, heard = asyncio.run(main())
    assert there == everything(seed), "asyncio's threads have other bits"
    assert turns > 0 and heard > 0


def signals(seed: int) -> None:
    """Signals at every moment, compiling included, to a handler that returns."""
    with storm(seed, signal.SIGALRM) as heard:
        there = everything(seed, (*QUICK, "compiled callers"))
    assert heard()
    assert there == everything(seed, (*QUICK, "compiled callers")), "calls that signals interrupt have other bits"


def raising_signals(seed: int) -> None:
    """Signals whose handler raises: what they interrupt can be called again.

    Not while Numba compiles a user's function: there it loses parts of its registries, whoever's function it is.
    """
    rng, names = random.Random(seed), QUICK
    raised = 0
    for _ in range(40):
        raised += hear(rng.choice(names), seed, signal.SIGALRM, rng.uniform(0.0005, 0.3))
    there = everything(seed, names)
    assert raised > 0
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(bits, [(name, seed) for name in names]) == there, "calls that were interrupted have other bits"


def fork_in_a_thread(seed: int) -> None:
    """Forks in threads while others compile, load and step; the children step, and end."""
    rng, stop = random.Random(seed), threading.Event()
    failures: list[str] = []

    def step() -> None:
        k = 0
        while not stop.is_set():
            k += 1
            everything(k % 3, ("step", "guarded", "network"))

    def compile_() -> None:
        from numba import njit

        while not stop.is_set():
            njit(lambda x: x * x + 1)(2.0)
            time.sleep(0.02)  # without which no fork would get its turn soon

    def fork() -> None:
        for _ in range(6):
            time.sleep(rng.uniform(0, 0.5))
            made = os.fork()
            if made == 0:
                try:
                    got = everything(seed, ("step", "adam_step", "network"))
                    bits(("compiled callers", seed))  # which is not compiled yet
                    os._exit(0 if got == expected else 3)
                except BaseException:
                    sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                    os._exit(4)
            for _ in range(100 * 60):
                ended, status = os.waitpid(made, os.WNOHANG)
                if ended:
                    break
                time.sleep(0.01)
            else:
                os.kill(made, signal.SIGABRT)  # with its stacks
                os.waitpid(made, 0)
                status = -1
            if status:
                failures.append("hung" if status == -1 else f"ended with {os.waitstatus_to_exitcode(status)}")

    expected = everything(seed, ("step", "adam_step", "network"))
    others = [threading.Thread(target=x) for x in (step, step, compile_)]
    forking = [threading.Thread(target=fork) for _ in range(2)]
    for thread in (*others, *forking):
        thread.start()
    fork()  # in the main thread, too
    for thread in forking:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()
    if failures:
        raise SystemExit(f"children of a fork in a thread: {', '.join(failures)}")
    assert everything(seed, ("step", "adam_step", "network")) == expected


def exit_beside_daemons(seed: int) -> None:
    """The process ends while daemon threads step."""

    def step() -> None:
        while True:
            everything(seed, ("step", "bind", "guarded", "network"))

    everything(seed)
    for _ in range(4):
        threading.Thread(target=step, daemon=True).start()
    time.sleep(random.Random(seed).uniform(0, 0.2))


CASES: dict[str, Callable[[int], None]] = {
    "fork in a thread": fork_in_a_thread,
    "fork, used before": _pool("fork", True),
    "signals that raise": raising_signals,
    "exit beside daemon threads": exit_beside_daemons,
    "fork, not used before": _pool("fork", False),
    "spawn, used before": _pool("spawn", True),
    "spawn, not used before": _pool("spawn", False),
    "forkserver, used before": _pool("forkserver", True),
    "forkserver, not used before": _pool("forkserver", False),
    "loky": loky,
    "asyncio": event_loop,
    "signals": signals,
}
SHORT, LONG = 2, 5 * 3 * len(CASES)
