"""Parts of tuples in compiled code, by places that are constants of the function, which Numba's slices cannot be."""

from __future__ import annotations

from typing import Any

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
