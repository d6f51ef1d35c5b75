"""No rank waits for one that is gone: when a process of a job ends, all others say so and end, too.

A thread of each rank listens on a ring of sockets (`ring.py`).  What it hears of: a neighbour whose process has ended
(its socket is closed by the system, however it ended), an exception that nobody catches, a wait that lasts too long.
It tells the others, writes a message, and ends its process with the status 1.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from .ring import Ring

LAST_WORDS = 1.0  # seconds between the message and the end, in which all others hear of it
PATIENCE = 3.0  # seconds that a rank may wait after another has ended in good order
_LOOK = 0.25  # seconds between two looks at the clock


class Watch:
    """The watch of a rank over its job; built by all ranks of `comm` together."""

    def __init__(self, comm: Any) -> None:
        self.rank, self.size = comm.rank, comm.size
        self._where = "before its first step"
        self._wait: tuple[float, float] | None = None  # since when this rank waits for others, and how long it may
        self._gone: dict[int, float] = {}  # the ranks that have ended in good order, and when that was heard
        self._all_gone = threading.Event()
        self._names = comm.all_gather_object(f"process {os.getpid()} on {socket.gethostname()}")
        self._ending = threading.Lock()
        self._ring = Ring(comm)
        self._wake, self._call = os.pipe()
        self._closed = False
        self._thread = threading.Thread(target=self._listen, name="nagd_numba watch", daemon=True)
        self._thread.start()
        _hook_exceptions(self)
        atexit.register(self.close)
        _watches.add(self)

    @contextlib.contextmanager
    def waiting(self, where: str, timeout: float) -> Iterator[None]:
        """In this block the rank waits for others, at most so many seconds; `where` is for the message."""
        self._where, self._wait = f"in {where}", (time.monotonic(), timeout)
        try:
            yield
        finally:
            self._where, self._wait = f"after {where}", None

    def close(self) -> None:
        """Tell the others that this rank ends in good order, and watch until all do: `MPI_Finalize` waits for all."""
        if not self._closed:
            self._ring.tell({"kind": "bye", "rank": self.rank})
            self._where = "at its end"
            self._all_gone.wait()
            self._closed = True
            os.write(self._call, b".")
            self._thread.join(LAST_WORDS)
            self._ring.close()

    def raised(self, kind: type[BaseException], error: BaseException) -> None:
        """End all ranks, for an exception that nobody caught in this one."""
        text = " ".join(traceback.format_exception_only(kind, error)[-1].split())
        self._end_all(f"rank {self.rank} of {self.size} raised {text[:500]}", quiet=True)

    def forget(self) -> None:
        """In a forked process: let go of what belongs to the rank."""
        self._closed = True
        self._ring.close()

    def _listen(self) -> None:
        while not self._closed:
            for neighbour, word, link in self._ring.heard(self._wake, _LOOK):
                if word is None:
                    if neighbour not in self._gone:
                        self._end_all(
                            f"rank {neighbour} of {self.size} ({self._names[neighbour]}) was killed or crashed"
                        )
                    continue
                if word["rank"] == self.rank:  # it went round
                    continue
                self._ring.tell(word, but=link)
                if word["kind"] == "bye":
                    self._gone.setdefault(word["rank"], time.monotonic())
                    if len(self._gone) == self.size - 1:
                        self._all_gone.set()
                else:
                    self._end(word["text"])
            self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        wait, now = self._wait, time.monotonic()
        if wait is None:
            return
        since, timeout = wait
        if now - since > timeout:
            self._end_all(f"rank {self.rank} of {self.size} has waited {timeout:g} s for others {self._where}")
        for rank, heard in self._gone.items():
            if now - max(since, heard) > PATIENCE:
                self._end_all(f"rank {rank} of {self.size} has ended, and rank {self.rank} waits for it {self._where}")

    def _end_all(self, text: str, quiet: bool = False) -> None:
        self._end(text, quiet, tell=True)

    def _end(self, text: str, quiet: bool = False, tell: bool = False) -> None:
        """End this process, and with `tell` all others; `quiet` without a message.

        The message comes first: mpiexec kills all ranks a moment after it has seen that one was killed.
        """
        if not self._ending.acquire(blocking=False):
            time.sleep(2 * LAST_WORDS)  # another thread is at it
        if not quiet:
            said = (
                f"nagd_numba.distributed: {text}. This rank, {self.rank} of {self.size}, was {self._where}; it ends "
                f"now. The last checkpoint that was saved is whole.\n"
            )
            os.write(2, said.encode())  # not through sys.stderr, whose lock another thread may hold
        if tell:
            self._ring.tell({"kind": "end", "rank": self.rank, "text": text})
        threading.Thread(target=_flush, daemon=True).start()
        time.sleep(LAST_WORDS)
        os._exit(1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def watch(comm: Any) -> Watch | None:
    """The watch over a communicator, started by all ranks when there is none yet; None for a single rank."""
    known: Watch | None = comm.watch
    if known is None and comm.size > 1:
        try:
            known = Watch(comm)
        except OSError as error:
            if comm.rank == 0:
                warnings.warn(
                    f"the ranks cannot watch each other ({error}): when one of them ends, the others may wait for ever",
                    RuntimeWarning,
                    stacklevel=3,
                )
            return None
        comm.watch = known
    return known


def _hook_exceptions(mine: Watch) -> None:
    """Let an exception that nobody catches be known to the other ranks, after it was shown as usual."""
    reference, before = weakref.ref(mine), sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        known = reference()
        if known is not None and not known._closed:
            known.raised(kind, error)

    sys.excepthook = hook


_watches: weakref.WeakSet[Watch] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for known in list(_watches):
        known.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
