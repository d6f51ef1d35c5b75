"""A line that says why nothing happens while kernels compile."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from numba.core import event

AFTER = 1.0  # seconds of compilation
TEXT = "Compiling kernels (once; later runs load them) ..."


class _Notice(event.Listener):
    """Hears when a pass of Numba's compiler starts and ends; a kernel that is loaded from disk has none."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._depth, self._last = 0, 0.0
        self._told = False

    def on_start(self, event: event.Event) -> None:
        self._depth += 1
        if self._timer is None and not self._told:
            self._timer = threading.Timer(AFTER, self._tell)
            self._timer.daemon = True
            self._timer.start()

    def on_end(self, event: event.Event) -> None:
        self._depth -= 1
        self._last = time.perf_counter()

    def _tell(self) -> None:
        self._timer = None
        if self._depth > 0 or time.perf_counter() - self._last < AFTER / 2:  # still compiling
            self._told = True
            print(TEXT, file=sys.stderr, flush=True)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


@contextlib.contextmanager
def compile_notice() -> Iterator[None]:
    """Once the block has compiled for more than a second, say so on standard error, in one line."""
    notice = _Notice()
    event.register("numba:run_pass", notice)
    try:
        yield
    finally:
        event.unregister("numba:run_pass", notice)
        notice.cancel()
