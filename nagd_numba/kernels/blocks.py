"""Masks of bytes in blocks, for processors that cannot store some elements of a vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import python_callable
from .template import template

BLOCK = 64  # elements that a mask is looked at for together: a bit for each
NONE, EVERY, MIXED = 0, -1, 1


def _indices(typingctx, count):
    def build(context, builder, signature, operands):
        memory = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(64), count.literal_value))
        return builder.bitcast(memory, context.get_value_type(signature.return_type))

    return types.CPointer(types.int64)(count), build


def _indices_python(count):
    return np.empty(count, np.int64)


def _bits(typingctx, x, i):
    def build(context, builder, signature, operands):
        block = ir.VectorType(ir.IntType(8), 64)
        place = builder.bitcast(builder.gep(operands[0], [operands[1]]), block.as_pointer())
        marked = builder.icmp_unsigned("!=", builder.load(place, align=1), ir.Constant(block, None))
        return builder.bitcast(marked, ir.IntType(64))

    return types.int64(x, types.int64), build


def _bits_python(x, i):
    return np.packbits(x[i : i + 64] != 0, bitorder="little").view("<i8")[0]


# indices(count): memory for so many of them (a constant), which lives as long as the caller runs
indices: Any = python_callable(intrinsic(prefer_literal=True)(_indices), _indices_python)
# bits(pointer, i): 64 bytes from there on as a bit each, which is 1 where the byte is not 0
bits: Any = python_callable(intrinsic(_bits), _bits_python)


@template
def over_blocks(whole, places):
    """`over_bytes` for processors without masked stores, which take as long as a dozen others there.

    Blocks of a mask without zeros, which most are, go the way of a step without a mask, as many as follow each other;
    in blocks where the mask changes its elements are stepped one by one.
    """

    def over_blocks(params, grads, states, first, last, scalars):
        mask, arrays = states[-1], states[:-1]
        chosen = indices(BLOCK)
        start = first  # of the blocks without zeros, up to this one
        for begin in range(first, last, BLOCK):
            end = begin + BLOCK
            marks = bits(mask, begin) if end <= last else MIXED
            if marks != EVERY:
                whole(params, grads, arrays, start, begin, scalars)
                start = end
                if marks != NONE:
                    count = 0
                    for i in range(begin, min(end, last)):
                        chosen[count] = i
                        count += np.int64(mask[i] != 0)
                    places(params, grads, arrays + (chosen,), 0, count, scalars)  # noqa: RUF005
        whole(params, grads, arrays, start, last, scalars)

    return over_blocks
