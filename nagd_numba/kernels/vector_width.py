"""Loops over memory with the widest vectors of the processor.

On most processors with AVX-512 LLVM prefers vectors of 256 bits, since some become slower by wider arithmetic.  A loop
that waits for memory does not: it loads and stores whole lines of the cache, of which more are on their way at once.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from .jit import python_callable


def _widest(typingctx):
    def build(context, builder, signature, operands):
        # llvmlite's own `add` knows only attributes without a value.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), build


widest_vectors: Any = python_callable(intrinsic(_widest), lambda: None)
