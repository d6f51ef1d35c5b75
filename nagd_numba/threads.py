"""When a parallel kernel may run.

A `parallel=True` kernel can end the process: under numba's workqueue layer when two threads are in such kernels at
once (ours or the user's), and under GNU OpenMP in a child forked after the first one ran.  `parallel_allowed` is
false in both cases, and the serial twin, which gives the same bits, runs instead.
"""

from __future__ import annotations

import os

import numba

_forked_from_openmp = False


def _layer() -> str | None:
    try:
        return numba.threading_layer()
    except ValueError:  # no parallel code has run yet
        return None


def _after_fork_in_child() -> None:
    global _forked_from_openmp
    _forked_from_openmp = _forked_from_openmp or _layer() == "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def parallel_allowed() -> bool:
    """May this thread of this process enter a parallel kernel now, and would it gain by it?"""
    if _forked_from_openmp:
        return False
    # get_num_threads starts numba's thread pool, after which its layer is known.
    return numba.get_num_threads() > 1 and _layer() in ("omp", "tbb")
