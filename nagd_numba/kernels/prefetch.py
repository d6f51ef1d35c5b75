"""A request for memory that will be used soon."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import python_callable

_WRITE, _KEEP, _DATA = 1, 3, 1  # as LLVM counts them


def _prefetch(typingctx, x, i):
    def build(context, builder, signature, operands):
        word = ir.IntType(32)
        place = builder.bitcast(builder.gep(operands[0], [operands[1]]), cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", (cgutils.voidptr_t,), kind)
        builder.call(function, [place, *(ir.Constant(word, k) for k in (_WRITE, _KEEP, _DATA))])
        return context.get_dummy_value()

    return types.void(x, types.int64), build


# prefetch(pointer, i): bring the memory of element i, which will be written, into the cache
prefetch: Any = python_callable(intrinsic(_prefetch), lambda x, i: None)
