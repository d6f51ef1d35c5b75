"""Memory for tables, at the end of a process."""

import subprocess
import sys

# A module that was imported before keeps both until its own names are gone, which is after those of `tables`.
LATE = """
import os
from nagd_numba.gpu import tables

class Driver:
    def allocate(self, size, device):
        return 1

os.kept = tables, tables.Memory(Driver(), 10, 0, 0)
"""


def test_memory_that_outlives_its_module_goes_without_a_word():
    process = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=300)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
