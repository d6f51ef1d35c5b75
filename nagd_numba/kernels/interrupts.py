"""Signals wait while a kernel is compiled or loaded.

LLVM calls Python back meanwhile, and an exception in such a call is lost, or ends the process; one amid Numba's
registries leaves them without a half of themselves, and no later compilation succeeds.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Signals in this block, to handlers in Python, are handled after it, as they would have been."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears of them
        yield
        return
    with contextlib.ExitStack() as waiting:
        for number in signal.valid_signals():
            handler: Any = signal.getsignal(number)
            if callable(handler):
                waiting.enter_context(_waits(number, handler))
        yield


@contextlib.contextmanager
def _waits(number: int, handler: Any) -> Iterator[None]:
    """One signal of its own: where the handler of one raises at the end, those of the others are put back too."""
    caught: list[Any] = []
    try:
        signal.signal(number, lambda *given: caught.append(given))
        yield
    finally:
        signal.signal(number, handler)
        if caught:
            handler(*caught[0])
