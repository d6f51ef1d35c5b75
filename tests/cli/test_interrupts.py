"""The end of a process that was interrupted: at once, with nothing left that others complain of."""

import subprocess
import sys

BEFORE = "import multiprocessing; lock = multiprocessing.get_context('spawn').RLock()"  # as Numba has one
END = "from nagd_numba.cli.interrupts import end_now; print('said', end=''); end_now(3)"


def test_an_end_gives_semaphores_back():
    ended = subprocess.run([sys.executable, "-c", f"{BEFORE}; {END}"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "said", "")
