"""Signals at any moment."""

from __future__ import annotations

import contextlib
import random
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def storm(seed: int, number: signal.Signals) -> Iterator[Callable[[], int]]:
    """A signal (SIGALRM) some milliseconds after the last was heard; how many were."""
    heard, rng = 0, random.Random(seed)

    def handler(*_: object) -> None:
        nonlocal heard
        heard += 1
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0002, 0.01))

    before = signal.signal(number, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        yield lambda: heard
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(number, before)


class Heard(Exception):
    """A signal was heard."""


def hear(name: str, seed: int, number: signal.Signals, after: float) -> bool:
    """A call with a signal (SIGALRM) some seconds after its begin, whose handler raises; did that come here?"""
    from ._calls import CALLS

    def handler(*_: object) -> None:
        raise Heard

    before = signal.signal(number, handler)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        CALLS[name](seed)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Heard:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(number, before)
    return False
