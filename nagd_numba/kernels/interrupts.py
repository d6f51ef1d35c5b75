"""Ctrl-C waits while a kernel is compiled or loaded.

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
    """A SIGINT in this block is handled after it, as it would have been."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears of signals
        yield
        return
    handler: Any = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        yield
        return
    caught: list[Any] = []
    signal.signal(signal.SIGINT, lambda *given: caught.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[0])
