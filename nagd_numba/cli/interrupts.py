"""Ctrl-C, SIGTERM and SIGHUP while a command runs: it ends within a second, with what is done so far kept.

The main thread hears of a signal between two instructions of Python: soon, except while it compiles, or is in a long
call of machine code.  A thread waits for that, and ends the process itself where it must.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn, Protocol

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
INTERRUPTED = 130  # the exit code after Ctrl-C; after another signal it is 128 and its number
GRACE = 0.3  # seconds that the main thread has to hear of a signal
LAST = 0.4  # seconds for the last words of the other thread


class Run(Protocol):
    """What is in work, and ends soon when `stop` is set."""

    stop: bool


class Interrupts:
    """The first signal: `KeyboardInterrupt`, and the run told to stop, should the exception be lost in a callback of C
    code.  From then on, and after `ignore`, none has an effect.

    `last` is called by another thread where the main thread does not hear: it keeps what is to be kept, and returns
    what else is to be said.
    """

    run: Run | None = None
    last: Callable[[], Callable[[], object]] | None = None
    done = False
    code = INTERRUPTED

    def __init__(self) -> None:
        self._ending = threading.RLock()
        self._heard = threading.Event()

    def __call__(self, number: int, *_: object) -> None:
        with self._ending:  # held for ever where the process is ending
            if not self._begin(number):
                return
        self._heard.set()
        if not getattr(self.run, "committing", False):  # then it stops as soon as it may
            raise KeyboardInterrupt

    def _begin(self, number: int) -> bool:
        if self.done:
            return False
        self.done, self.code = True, 128 + number
        if self.run is not None:
            self.run.stop = True
        return True

    def ignore(self) -> None:
        self.done = True

    def watch(self, signals: int) -> None:
        """End the process on a signal that the main thread does not hear; `signals` is where their numbers come."""
        while (number := os.read(signals, 1)[0]) != 0:
            if number not in SIGNALS or self.done or self.last is None or self._heard.wait(GRACE):
                continue
            with self._ending:
                if not self._begin(number):
                    continue
                ending = threading.Timer(LAST, os._exit, [self.code])
                ending.daemon = True
                try:
                    say = self.last()
                    ending.start()
                    say()
                finally:  # the main thread cannot be unwound
                    end_now(self.code)


def handled() -> None:
    """Let the process end with an exit code after Ctrl-C.

    Python notes a KeyboardInterrupt that passes through `exec` of a text, which Numba and namedtuples use, and then
    ends the process by the signal, also if it was caught; the next `exec` takes the note back.
    """
    exec("")


def end_now(code: int) -> NoReturn:
    """End the process, once what it said is written.

    Python frees everything first, which takes up to a second after kernels were compiled.  Only the semaphores of
    multiprocessing are given back, one of which Numba has: where processes are not forked by default, as from Python
    3.14 on, another process would complain of them.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        if (util := sys.modules.get("multiprocessing.util")) is not None:
            util._run_finalizers()
    finally:
        os._exit(code)


@contextlib.contextmanager
def catching(handler: Interrupts) -> Iterator[None]:
    """In this block the signals are those of `handler`; one that is ignored, as in the background, stays so."""
    before = {}
    if threading.current_thread() is threading.main_thread():  # only it may set handlers
        before = {number: signal.getsignal(number) for number in SIGNALS}
    mine = [number for number, was in before.items() if was not in (signal.SIG_IGN, None)]
    watched = mine and os.name != "nt"  # whose pipes cannot be told not to block
    with _watched(handler) if watched else contextlib.nullcontext():
        try:
            for number in mine:
                signal.signal(number, handler)
            yield
        finally:
            handler.ignore()
            for number in mine:
                signal.signal(number, before[number])


@contextlib.contextmanager
def _watched(handler: Interrupts) -> Iterator[None]:
    """A thread that hears of signals at once: Python writes their numbers into a pipe."""
    read, write = os.pipe()
    try:
        os.set_blocking(write, False)
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        thread = threading.Thread(target=handler.watch, args=[read], name="nagd_numba signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            os.write(write, b"\0")
            thread.join()
    finally:
        os.close(read)
        os.close(write)
