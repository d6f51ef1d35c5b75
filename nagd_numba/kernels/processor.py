"""The processor that Numba compiles for, and what its vectors can do."""

from __future__ import annotations

import functools
from typing import Any

from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from .jit import python_callable


@functools.cache
def processor() -> tuple[str, str]:
    """The name and the features of the processor that Numba compiles for: this one, if NUMBA_CPU_NAME says no other."""
    _, name, features = cpu_target.target_context.codegen().magic_tuple()
    return name, features


def masked_stores() -> bool:
    """Can it store some elements of a vector as fast as all of them?

    With AVX-512 and SVE it can.  AVX2 has an instruction for it, which takes AMD's processors a dozen times as long.
    """
    return bool({"+avx512f", "+sve"}.intersection(processor()[1].split(",")))


def _widest(typingctx):
    def build(context, builder, signature, operands):
        # llvmlite's own `add` knows only attributes without a value.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), build


# Of the function where it is called.  On most processors with AVX-512 LLVM prefers vectors of 256 bits, since some
# become slower by wider arithmetic.  A loop that waits for memory does not: it loads and stores whole lines of the
# cache, of which more are on their way at once.
widest_vectors: Any = python_callable(intrinsic(_widest), lambda: None)
