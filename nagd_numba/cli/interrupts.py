"""Ctrl-C while the command line trains."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Protocol

INTERRUPTED = 130  # the exit code


class Run(Protocol):
    """What is in work, and ends soon when `stop` is set."""

    stop: bool


class Interrupts:
    """Ctrl-C once: `KeyboardInterrupt`, and the run told to stop, should the exception be lost in a callback of C
    code.  From then on, and after `ignore`, it has no effect."""

    run: Run | None = None
    done = False

    def __call__(self, *_: object) -> None:
        if not self.done:
            self.done = True
            if self.run is not None:
                self.run.stop = True
            if not getattr(self.run, "committing", False):  # then it stops as soon as it may
                raise KeyboardInterrupt

    def ignore(self) -> None:
        self.done = True


def handled() -> None:
    """Let the process end with an exit code after Ctrl-C.

    Python notes a KeyboardInterrupt that passes through `exec` of a text, which Numba and namedtuples use, and then
    ends the process by the signal, also if it was caught; the next `exec` takes the note back.
    """
    exec("")


@contextlib.contextmanager
def catching_interrupts() -> Iterator[Interrupts]:
    handler = Interrupts()
    before = signal.getsignal(signal.SIGINT)
    # Only the main thread may set handlers; a process in the background ignores Ctrl-C, which is left so.
    mine = threading.current_thread() is threading.main_thread() and before is not signal.SIG_IGN
    if mine:
        signal.signal(signal.SIGINT, handler)
    try:
        yield handler
    finally:
        if mine:
            signal.signal(signal.SIGINT, before)
