"""Arrays of several streams in one computation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ...gpu import driver, streams


def wait_for(arrays: list[Any], stream: int, device: int) -> list[int]:
    """Let a stream wait for those on which these arrays (or None) are made; returns them."""
    here, others = driver.current(), streams.Sources(arrays).others(stream, False, device)
    for other in others:
        here.order(other, stream, device)
    return others


@contextlib.contextmanager
def in_order(arrays: list[Any], stream: int, device: int) -> Iterator[None]:
    """What the block gives to the stream comes behind what made these arrays, and before what uses them then."""
    others = wait_for(arrays, stream, device)
    try:
        yield
    finally:
        for other in others:
            driver.current().order(stream, other, device)
