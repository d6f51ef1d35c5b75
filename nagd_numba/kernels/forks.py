"""A fork waits until no other thread compiles.

In the child that thread is gone, and Numba's lock, and LLVM's, would be held for ever: the first call that compiles or
loads a kernel there would wait without end.
"""

from __future__ import annotations

import os
from typing import Any

from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock

_library: Any = ffi.lib
_llvm: Any = getattr(_library, "_lock", None)  # llvmlite has no public name for it


def _before() -> None:
    """Take the locks, in the order in which who compiles takes them."""
    global_compiler_lock.acquire()
    if _llvm is not None:
        _llvm.__enter__()


def _after() -> None:
    if _llvm is not None:
        _llvm.__exit__(None, None, None)
    global_compiler_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
