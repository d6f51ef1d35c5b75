"""What compiled code reads of Python objects: NumPy arrays, tuples and floats that are passed as they are.

Numba turns each array that Python passes into a structure of its own, which takes 0.1 us.  A kernel whose parameters
are of the type `OBJECT` gets the objects themselves, and reads what it needs at the places of their C structures
(`PyArrayObject` is part of NumPy's binary interface; of CPython's objects the sizes tell, which are others where tuples
keep their hash, from Python 3.14 on, and in free-threaded builds).
It must hold Python's lock meanwhile, and trust no object before it saw its type.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

from .jit import JIT_OFF, inlined

_HEAD = object.__basicsize__  # bytes: the count of references, and the type
TYPE = _HEAD - 8
LENGTH = _HEAD  # of a tuple
ITEMS = tuple.__basicsize__
VALUE = _HEAD  # of a float
# Of an array: the address of its elements, its dimensions (32 bits), and the addresses of shape, strides, base, dtype;
# flags (32 bits)
DATA, DIMENSIONS, SHAPE, STRIDES, BASE, DTYPE, FLAGS = range(_HEAD, _HEAD + 56, 8)

_KIND = _HEAD + 8  # of a dtype: characters for kind, type and order of bytes, flags, and the number of the type
_WITHOUT_FLAGS = ~(0xFF << 24)

C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400


class _Object(types.Type):
    """Any Python object, as its address."""

    def __init__(self) -> None:
        super().__init__("python_object")


OBJECT = _Object()


@register_model(_Object)
class _ObjectModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.IntType(64))


@unbox(_Object)
def _unbox(kind: Any, x: Any, context: Any) -> NativeValue:
    return NativeValue(context.builder.ptrtoint(x, ir.IntType(64)))


@intrinsic
def object_address(typingctx, x):
    """The address of an object."""

    def build(context, builder, signature, operands):
        return operands[0]

    return types.int64(OBJECT), build


def _reader(kind: Any, bits: ir.Type, doc: str) -> Any:
    def read(typingctx, address, offset):
        def build(context, builder, signature, operands):
            at = builder.inttoptr(builder.add(*operands), bits.as_pointer())
            return builder.load(at)

        return kind(types.int64, types.int64), build

    read.__doc__ = doc
    return intrinsic(read)


word = _reader(types.int64, ir.IntType(64), "The 64 bits at so many bytes from an address.")
half = _reader(types.int32, ir.IntType(32), "The 32 bits at so many bytes from an address.")
real = _reader(types.float64, ir.DoubleType(), "The float64 at so many bytes from an address.")


@intrinsic(prefer_literal=True)
def room(typingctx, words):
    """The address of so many words (a constant) of memory, for as long as the caller runs."""
    count = words.literal_value

    def build(context, builder, signature, operands):
        slot = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(64), count))
        return builder.ptrtoint(slot, ir.IntType(64))

    return types.int64(words), build


@inlined
def dtype_tag(dtype):
    """A number that dtypes have in common which are equal, for plain numbers: there may be several objects of one."""
    return word(dtype, _KIND) & _WITHOUT_FLAGS


def tag_of(dtype: np.dtype[Any]) -> int:
    """The same from Python."""
    return ctypes.c_int64.from_address(id(dtype) + _KIND).value & _WITHOUT_FLAGS


@intrinsic
def release(typingctx):
    """Give up Python's lock; returns what `take_back` needs."""

    def build(context, builder, signature, operands):
        kind = ir.FunctionType(cgutils.voidptr_t, [])
        function = cgutils.get_or_insert_function(builder.module, kind, "PyEval_SaveThread")
        return builder.ptrtoint(builder.call(function, []), ir.IntType(64))

    return types.int64(), build


@intrinsic
def take_back(typingctx, thread):
    """Take Python's lock again."""

    def build(context, builder, signature, operands):
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t])
        function = cgutils.get_or_insert_function(builder.module, kind, "PyEval_RestoreThread")
        builder.call(function, [builder.inttoptr(operands[0], cgutils.voidptr_t)])
        return context.get_dummy_value()

    return types.void(types.int64), build


@functools.cache
def readable() -> bool:
    """Is code compiled here, and do objects of this Python and this NumPy look as this module says?"""

    def read(x: Any, offset: int, kind: Any = ctypes.c_int64) -> Any:
        return kind.from_address(id(x) + offset).value

    x, number = np.zeros((3, 5), np.float32), 2.5
    pair = x, number
    return (
        not JIT_OFF
        and [read(x, k) for k in (TYPE, DATA, DTYPE)] == [id(np.ndarray), x.ctypes.data, id(x.dtype)]
        and tag_of(x.dtype).to_bytes(8, "little") == bytes([*b"ff=", 0, x.dtype.num, 0, 0, 0])
        and read(x, DIMENSIONS, ctypes.c_int32) == 2
        and [ctypes.c_int64.from_address(read(x, SHAPE) + 8 * k).value for k in range(2)] == [3, 5]
        and read(x, FLAGS, ctypes.c_int32) & (C_CONTIGUOUS | ALIGNED | WRITEABLE) == 0x501
        and [read(pair, k) for k in (TYPE, LENGTH, ITEMS, ITEMS + 8)] == [id(tuple), 2, id(x), id(number)]
        and (read(number, TYPE), read(number, VALUE, ctypes.c_double)) == (id(float), 2.5)
    )
