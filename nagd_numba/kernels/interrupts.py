"""Signals wait while a kernel is compiled or loaded.

LLVM calls Python back meanwhile, and an exception in such a call is lost, or ends the process.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """What asks the process to end in this block is handled after it, as it would have been."""
    with _waits("SIGHUP"), _waits("SIGTERM"), _waits("SIGINT"):
        yield


@contextlib.contextmanager
def _waits(name: str) -> Iterator[None]:
    """One signal of its own: where the handler of one raises at the end, those of the others are put back too."""
    number: int = getattr(signal, name, 0)
    mine = number and threading.current_thread() is threading.main_thread()  # which alone hears of them
    handler: Any = signal.getsignal(number) if mine else None
    if not callable(handler):
        yield
        return
    caught: list[Any] = []
    try:
        signal.signal(number, lambda *given: caught.append(given))
        yield
    finally:
        signal.signal(number, handler)
        if caught:
            handler(*caught[0])
