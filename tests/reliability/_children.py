"""Python code in processes of its own, which may hang or die there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.helpers.layers import LAYERS, LOAD_TBB

ROOT = Path(__file__).parents[2]
LAYERS = LAYERS  # of Numba's threads
PATIENCE = 600  # seconds, after which a child hangs: compilers at work on a busy machine take one
_NO_LAYER = "No threading layer could be loaded"


class Ended(NamedTuple):
    """How a child ended."""

    status: int | None  # None: it hung
    out: str
    err: str

    @property
    def fault(self) -> str:
        """What went wrong, in a line; empty where nothing did."""
        if self.status == 0:
            return ""
        last = [x for x in self.err.splitlines() if x.strip()][-1:] or [""]
        if self.status is None:
            how = "hung"
        elif self.status < 0:
            how = f"ended by {signal.Signals(-self.status).name}"
        else:
            how = f"ended with {self.status}"
        return f"{how}: {last[0].strip()[:200]}"

    @property
    def without_layer(self) -> bool:
        """Could Numba not load the threading layer that was asked for?"""
        return _NO_LAYER in self.err


def run(code: str, layer: str = "", threads: int = 2, patience: float = PATIENCE, **environment: str) -> Ended:
    """Python code in a process of its own, under one of Numba's threading layers; where it hangs its stacks are told."""
    settings = {"NUMBA_THREADING_LAYER": layer} if layer else {}
    settings |= {"NUMBA_NUM_THREADS": str(threads), "PYTHONFAULTHANDLER": "1", "PYTHONPATH": str(ROOT)}
    watch = f"import faulthandler\nfaulthandler.dump_traceback_later({patience - 5}, exit=True)\n"
    child = subprocess.Popen(
        [sys.executable, "-c", LOAD_TBB + watch + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **settings, **environment},
        cwd=ROOT,
        start_new_session=True,  # its own children are ended with it
    )
    try:
        out, err = child.communicate(timeout=patience)
        hung = "Timeout (" in err and child.returncode == 1
        return Ended(None if hung else child.returncode, out, err)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        return Ended(None, out, err)
