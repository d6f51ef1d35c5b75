"""What `import nagd_numba` brings along, and what it does without: POSIX's modules, rich, frameworks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nagd_numba
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF

ROOT = Path(__file__).parent.parent

# The standard library's own imports of these find them; ours do not.
WITHOUT = """
import os, sys
import numpy as np
import numba, rich, scipy.optimize  # what others import of these is theirs

GONE = {gone!r}
for name in [x for x in sys.modules if x.partition(".")[0] in GONE]:
    del sys.modules[name]

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in GONE:
            raise ImportError(f"{{name}} is not on this system")

sys.meta_path.insert(0, Blocker())
for name in ("sched_getaffinity", "fork", "getuid", "geteuid", "getpgid", "killpg", "sysconf"):
    if {posix} and hasattr(os, name):
        delattr(os, name)
"""

USE = """
import nagd_numba

params, vel = np.ones(3), np.zeros(3)
nagd_numba.step(params, np.ones(3), vel, lr=0.5, momentum=0.0)
assert params.tolist() == [0.5, 0.5, 0.5]
found = nagd_numba.minimize(lambda x: (x @ x, 2 * x), np.ones(3), jac=True)
assert abs(found.x).max() < 1e-3
"""

POSIX = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog")


def python(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program],
        **{"capture_output": True, "text": True, "check": False, "cwd": ROOT},
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_importing_brings_no_framework_and_nothing_that_draws():
    loaded = python(f"import sys; import nagd_numba; print(*sys.modules); assert {nagd_numba.__version__!r}").split()
    roots = {name.partition(".")[0] for name in loaded}
    assert "numba" in roots
    heavy = {"rich", "matplotlib", "torch", "jax", "sklearn", "keras", "optax", "cuda", "mpi4py", "hypothesis"}
    assert not heavy & roots
    assert "scipy.optimize" not in loaded  # numba looks for scipy itself
    # These have many kernels, and are imported when they are asked for.
    assert not [name for name in loaded if name.startswith(("nagd_numba.mlp", "nagd_numba.minimizer"))]


@pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled code")
def test_steps_without_the_modules_of_posix(tmp_path):
    """As on a system that has none of them; the disk cache works there without locks."""
    ours = "del os.register_at_fork\n"  # which frameworks call without asking
    python(WITHOUT.format(gone=POSIX, posix=True) + ours + USE, NUMBA_CACHE_DIR=str(tmp_path))
    assert any((tmp_path / "nagd_numba").rglob("*.nbc"))


@pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled code")
def test_steps_without_rich():
    python(WITHOUT.format(gone=("rich",), posix=False) + USE)


def test_every_module_can_be_imported_without_the_modules_of_posix():
    """What is not there may be a framework, or miss such a module itself; ours look for none."""
    program = (
        WITHOUT.format(gone=POSIX, posix=True)
        + """
import importlib, pkgutil, traceback, nagd_numba
ours = os.path.dirname(nagd_numba.__file__)
count = 0
for found in pkgutil.walk_packages(nagd_numba.__path__, "nagd_numba."):
    if found.name.endswith("__main__"):
        continue
    count += 1
    try:
        importlib.import_module(found.name)
    except ImportError as error:
        while error is not None:
            frames = [x.filename for x in traceback.extract_tb(error.__traceback__) if "importlib" not in x.filename]
            wanted = "is not on this system" in str(error) and frames[-2].startswith(ours)  # the last is the blocker
            assert not wanted, (found.name, error)
            error = error.__cause__ or error.__context__
assert count > 200
"""
    )
    python(program)
