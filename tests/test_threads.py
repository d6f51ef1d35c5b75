"""Threads, forks and numba's threading layers: never an abort of the process, and always the same bits.

Each case runs in a process of its own, since what it guards against ends the process.
"""

import os
import subprocess
import sys
import textwrap

import pytest

from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF
from tests.helpers.layers import run_under

pytestmark = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled parallel kernels")

PRELUDE = """
import os, sys, threading
import numpy as np
import numba
from numba import njit, prange
import nagd_numba
from nagd_numba.kernels import segments
from nagd_numba.kernels.forms import ALWAYS_PARALLEL, PARALLEL_FROM

segments.step_of = lambda *kind: segments.Step(*kind, ALWAYS_PARALLEL)  # whatever else runs here

N = 4 * PARALLEL_FROM

def run(steps=20):
    p, g, v = (np.full(N, x, np.float32) for x in (1.0, 0.5, 0.0))
    for _ in range(steps):
        nagd_numba.step(p, g, v)
    return p[0], p[-1], p.std()

@njit(parallel=True)
def users_kernel(x):
    for i in prange(x.size):
        x[i] += 1

serial = np.full(4, 1, np.float32), np.full(4, 0.5, np.float32), np.zeros(4, np.float32)
for _ in range(20):
    nagd_numba.step(*serial)
expected = serial[0][0], serial[0][0], 0.0
"""

THREADS = """
results = []
threads = [threading.Thread(target=lambda: results.append(run())) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
assert results == [expected] * 4, results
"""

THREADS_BESIDE_A_USERS_KERNEL = """
x = np.zeros(3_000_000)
stop = False
def other():
    while not stop:
        users_kernel(x)
if LAYER != "workqueue":  # under workqueue the user's own second caller would abort, whoever it calls
    users_kernel(x)
t = threading.Thread(target=other); t.start()
assert run(50)[2] == 0
stop = True; t.join()
"""

FORK = """
assert run() == expected
users_kernel(np.zeros(1000))
child = os.fork()
if child == 0:
    os._exit(0 if run() == expected else 3)
status = os.waitpid(child, 0)[1]
assert status == 0, status
assert run() == expected
"""

FORK_FIRST = """
child = os.fork()
if child == 0:
    os._exit(0 if run() == expected else 3)
assert os.waitpid(child, 0)[1] == 0
assert run() == expected
"""

POOL = """
import multiprocessing
assert run() == expected
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(run, [20] * 4).get(timeout=60) == [expected] * 4
"""

PRANGE = """
@njit(parallel=True)
def many(p, g, v):
    for k in prange(p.shape[0]):
        nagd_numba.step(p[k], g[k], v[k])
p, g, v = (np.full((8, 100_000), x, np.float32) for x in (1.0, 0.5, 0.0))
def both():
    for _ in range(20):
        many(p, g, v)
both()
assert p[0, 0] == expected[0] and p.std() == 0
"""

CASES = {
    "threads": THREADS,
    "threads-beside-a-users-kernel": THREADS_BESIDE_A_USERS_KERNEL,
    "fork": FORK,
    "fork-before-first-use": FORK_FIRST,
    "fork-pool": POOL,
    "prange": PRANGE,
}

# What a layer cannot do by itself: GNU OpenMP cannot fork, workqueue takes no second caller.  The others in CI.
FIRST = {
    "omp": ("threads", "fork", "fork-before-first-use", "fork-pool", "prange"),
    "workqueue": ("threads", "threads-beside-a-users-kernel"),
    "tbb": ("threads-beside-a-users-kernel", "fork"),
}


@pytest.mark.parametrize(
    ("case", "layer"),
    [
        pytest.param(case, layer, id=f"{case}-{layer}", marks=() if case in first else pytest.mark.ci)
        for layer, first in FIRST.items()
        for case in CASES
    ],
)
def test_no_abort(case, layer):
    if "fork" in case and not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    code = PRELUDE + f"LAYER = {layer!r}\n" + textwrap.dedent(CASES[case])
    done = run_under(layer, code, "-W", "error::RuntimeWarning")
    assert done.returncode == 0, done.stderr[-3000:]


def test_without_a_threading_layer():
    """Where numba can load no layer at all, large vectors take the serial kernel."""
    code = (
        "import numba.np.ufunc.parallel as parallel\n"
        "def none(*a): raise ValueError('No threading layer could be loaded.')\n"
        "parallel._launch_threads = none\n" + PRELUDE + "assert run() == expected\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_guard_is_what_prevents_it():
    """Without the guard the fork case does end the child: the test above can fail."""
    code = (
        PRELUDE
        + "from nagd_numba.kernels import threading_layer\n"
        + "assert run() == expected\n"
        + "child = os.fork()\n"
        + "if child == 0:\n"
        + "    threading_layer._allowed = True\n"
        + "    run(); os._exit(0)\n"
        + "sys.exit(7 if os.waitpid(child, 0)[1] != 0 else 0)\n"
    )
    environment = {**os.environ, "NUMBA_THREADING_LAYER": "omp", "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    if sys.platform != "linux":
        pytest.skip("GNU OpenMP's behaviour after fork is Linux's")
    assert done.returncode == 7, done.stderr[-2000:]
