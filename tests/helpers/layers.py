"""Code in a process of its own, under one of numba's threading layers."""

import os
import subprocess
import sys

import pytest

LAYERS = ("omp", "tbb", "workqueue")

LOAD_TBB = """
import ctypes, os, sys
try:  # pip puts the TBB library where the loader does not look
    ctypes.CDLL(os.path.join(sys.prefix, "lib", "libtbb.so.12"), mode=ctypes.RTLD_GLOBAL)
except OSError:
    pass
"""


def run_under(layer, code, *flags):
    """The finished process; skips where numba cannot load the layer."""
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, *flags, "-c", LOAD_TBB + code],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        check=False,
    )
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"numba cannot load the {layer} threading layer here")
    return done
