"""asv looks for suites by importing every module of `benchmarks`, in environments with few packages."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import importlib, pkgutil, sys

import numba, rich.table, scipy.optimize, scipy.sparse  # with all that they find

HAS = {"benchmarks", "llvmlite", "nagd_numba", "numba", "numexpr", "numpy", "pygments", "rich", "scipy"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root not in HAS and root not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{root} is not in asv's environments", name=root)

sys.meta_path.insert(0, Blocker())
import benchmarks

names = [found.name for found in pkgutil.iter_modules(benchmarks.__path__, "benchmarks.")]
for name in names:
    importlib.import_module(name)
assert len(names) > 30, names
"""


def test_every_module_can_be_imported_where_asv_runs():
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
