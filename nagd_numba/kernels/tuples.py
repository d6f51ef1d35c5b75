"""Tuples in compiled code: parts, by places that are constants, which Numba's slices cannot be, and a choice of two."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .jit import python_callable


def _part(typingctx, values, first, stop):
    if not all(isinstance(x, types.IntegerLiteral) for x in (first, stop)):
        raise TypingError(f"the places must be constants, got {first} and {stop}")
    low, high, _ = slice(first.literal_value, stop.literal_value).indices(len(values))
    made = types.Tuple(list(values.types)[low:high])

    def build(context, builder, signature, operands):
        return context.make_tuple(builder, made, cgutils.unpack_tuple(builder, operands[0])[low:high])

    return made(values, first, stop), build


def _part_python(values, first, stop):
    return values[first:stop]


# part(values, first, stop): values[first:stop]
part: Any = python_callable(intrinsic(prefer_literal=True)(_part), _part_python)


def _frozen(builder, value):
    made = ir.Instruction(builder.block, value.type, "freeze", [value])
    builder._insert(made)
    return made


def _either(typingctx, condition, first, second):
    if first != second:
        raise TypingError(f"{first} and {second} are not of one type")

    def build(context, builder, signature, operands):
        pairs = zip(*(cgutils.unpack_tuple(builder, x) for x in operands[1:]), strict=True)
        return context.make_tuple(
            builder, first, [builder.select(operands[0], a, _frozen(builder, b)) for a, b in pairs]
        )

    return first(types.boolean, first, second), build


def _either_python(condition, first, second):
    return first if condition else second


# either(condition, first, second): one of two tuples, both of which were computed.  Where `second` is what memory held,
# LLVM makes of a branch, and its code generator of a plain choice too, a masked store, which takes a dozen times as
# long on many processors; `freeze` hides from it where the numbers come from.
either: Any = python_callable(intrinsic(_either), _either_python)
