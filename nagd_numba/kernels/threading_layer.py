"""When a parallel kernel may run.

A `parallel=True` kernel can end the process: under numba's workqueue layer when two threads are in such kernels at
once (ours or the user's), and under GNU OpenMP in a child forked after the first one ran.  Under TBB it can wait for
ever in a child that was forked beside other threads, which TBB's workers of the parent may have served.
`parallel_allowed` is false in all these cases, and the serial twin, which gives the same bits, runs instead.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numba
from numba import config

_settings: Any = config  # numba's types do not list its settings

_allowed: bool | None = None  # not known until numba has chosen its threading layer


def parallel_allowed() -> bool:
    """May any thread of this process enter a parallel kernel, and are there threads to gain by it?"""
    global _allowed
    if _allowed is None:
        try:
            numba.get_num_threads()  # starts numba's threads if nothing has yet: only then is the layer known
            _allowed = numba.threading_layer() in ("omp", "tbb") and int(_settings.NUMBA_NUM_THREADS) > 1
        except (ValueError, ImportError, RuntimeError):  # no layer can be loaded here
            _allowed = False
    return _allowed


_forked_alone = True  # the last fork of this process, or that which it came from


def _before_fork() -> None:
    global _forked_alone
    _forked_alone = threading.active_count() == 1 and threading.current_thread() is threading.main_thread()


def _after_fork_in_child() -> None:
    global _allowed
    try:
        layer = numba.threading_layer()
    except ValueError:  # no parallel code ran before the fork
        _allowed = None
    else:
        _allowed = False if layer == "omp" or (layer == "tbb" and not _forked_alone) else None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
