"""How many threads a rank may use: those of its share of the processors that it runs on."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import numba


def fair_share(comm: Any) -> int:
    """The processors of this rank, over the ranks of its machine that run on some of them; called by all ranks.

    Threads of several ranks on one processor wait for each other at the end of every loop: with GNU OpenMP, whose
    threads spin there, a step of two ranks with two threads each takes 10 times as long on two cores.
    """
    mine = (socket.gethostname(), _processors())
    sharing = [1 for host, used in comm.all_gather_object(mine) if host == mine[0] and used & mine[1]]
    return max(1, len(mine[1]) // max(1, len(sharing)))


def _processors() -> frozenset[int]:
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return frozenset(range(os.cpu_count() or 1))


@contextlib.contextmanager
def at_most(threads: int) -> Iterator[None]:
    """In this block Numba's parallel loops of this thread use no more than so many threads."""
    before = numba.get_num_threads()
    if before <= threads:
        yield
        return
    numba.set_num_threads(threads)
    try:
        yield
    finally:
        numba.set_num_threads(before)
