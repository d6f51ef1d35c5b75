"""16 Python threads, each in every public call at once, under each of Numba's threading layers: equal bits.

A trial is one process, under one of the layers in turn, with nothing loaded when its threads begin.  Each goes through
all calls (`_calls.CALLS`) in an order of its own, on data that some others have too.  Then the main thread does the same
alone.  A loss is a process that aborts or hangs, a call that raises, or one whose bits differ.
"""

from __future__ import annotations

import json
import random
import threading
import traceback
from pathlib import Path

from . import Result
from ._children import LAYERS, run

SHORT, LONG = 1, 12
THREADS, KINDS = 16, 4  # of data


def trial(count: int, seed: int, folder: Path) -> Result:
    """Processes, each under the next layer."""
    lost, absent, calls, first = [], set(), 0, {}
    for k in range(count):
        layer = LAYERS[k % len(LAYERS)]
        ended = run(f"from tests.reliability.threads import child; child({seed + k // len(LAYERS)})", layer)
        if ended.without_layer:
            absent.add(layer)
            continue
        where = f"seed {seed}, process {k}, {layer}"
        if ended.fault:
            lost.append(f"{where}: {ended.fault}")
            continue
        said = json.loads(ended.out.splitlines()[-1])
        calls += said["calls"]
        lost += [f"{where}: {x}" for x in said["lost"]]
        for name, bits in said["alone"].items():
            if first.setdefault(name, bits) != bits:
                lost.append(f"{where}: {name} has other bits than in an earlier process")
    left_out = f"{', '.join(sorted(absent))}, which Numba cannot load here" if absent else ""
    return Result(f"calls by {THREADS} threads at once, in {count} processes", calls, tuple(lost), left_out)


def child(seed: int) -> None:
    """One trial, told as JSON on the last line."""
    from ._calls import CALLS

    made: list[dict[str, str]] = [{} for _ in range(THREADS)]
    lost: list[str] = []
    start = threading.Barrier(THREADS)

    def work(k: int) -> None:
        names = list(CALLS)
        random.Random(1000 * seed + k).shuffle(names)
        start.wait()
        for name in names:
            try:
                made[k][name] = CALLS[name](k % KINDS)
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                lost.append(f"{name} in thread {k}: {error!r} ({where.filename}:{where.lineno})")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = {f"{name} of {k}": call(k) for k in range(KINDS) for name, call in CALLS.items()}
    lost += [
        f"{name} in thread {k} has other bits than alone"
        for k, own in enumerate(made)
        for name, bits in own.items()
        if bits != alone[f"{name} of {k % KINDS}"]
    ]
    print(json.dumps({"calls": THREADS * len(CALLS), "lost": lost, "alone": alone}))
