"""Models, trainings, states, checkpoints of many ranks, and data, damaged in every way.

Files are truncated, bits of them flipped, parts exchanged with those of another sound file; they are bombs that unpack
to 2 GiB, have headers that lie about shape, dtype and order, are of another version, or hold values out of range with
a digest that is right.  Lost is a file that makes a traceback, a hang of 20 s, a message of other than one line, more
than 200 MB of memory above 20 times its size, or a result of other bits without a word.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.kept_files import KINDS

from . import Result

SHORT, LONG = 210, 5_000


def trial(count: int, seed: int, folder: Path) -> Result:
    """Damage `count` files, as many of each kind."""
    if not os.path.exists("/proc/self/clear_refs"):
        return Result("damaged files", 0, left_out="memory is measured by Linux's /proc")
    lost: list[str] = []
    each = -(-count // len(KINDS))
    for name in KINDS:
        place = folder / name
        place.mkdir()
        words = [sys.executable, "-m", "tests.reliability._damage", name, str(each), str(seed), str(place)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        lines = done.stdout.splitlines()
        if done.returncode == 0:
            lost += json.loads(lines[-1])
        else:
            at = lines[-1] if lines else "the start"
            lost.append(f"{name}, seed {seed}: the process ended by {done.returncode} at {at}: {done.stderr[-300:]!r}")
    return Result(f"damaged files of {len(KINDS)} kinds ({', '.join(KINDS)})", each * len(KINDS), tuple(lost))
