"""The command `nagd-numba`, Ctrl-C while it imports: it ends by the signal, as a program in C does.

A traceback would tell what it was about to import.  In processes that are not the command nothing is changed.
"""

from __future__ import annotations

import os
import signal
import sys


def is_command() -> bool:
    """Was this process started as `nagd-numba` or `python -m nagd_numba`?"""
    if sys.argv[:1] == ["-m"]:  # until the module is found
        return f"-m {__package__}" in " ".join(sys.orig_argv)
    script = sys.argv[0] if sys.argv else ""
    module = os.path.join(os.path.dirname(__file__), "__main__.py")
    return script == module or os.path.basename(script).removesuffix(".exe") == "nagd-numba"


if is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
