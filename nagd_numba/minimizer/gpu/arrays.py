"""Arrays of compiled code from bare pointers: fewer arguments of a launch, and strides other than the memory's."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ...gpu.target import intrinsic

_I64 = ir.IntType(64)


def _emit(context: Any, builder: Any, kind: types.Array, data: Any, shape: list[Any], strides: list[Any]) -> Any:
    made = context.make_array(kind)(context, builder)
    count = _I64(1)
    for length in shape:
        count = builder.mul(count, length)
    made.data = data
    made.shape, made.strides = cgutils.pack_array(builder, shape), cgutils.pack_array(builder, strides)
    made.nitems, made.itemsize = count, _size_of(context, kind)
    return made._getvalue()


def _size_of(context: Any, kind: types.Array) -> Any:
    return _I64(context.get_abi_sizeof(context.get_data_type(kind.dtype)))


@intrinsic
def strided(typingctx, pointer, at, shape, steps):
    """The array of that shape from element `at` on, whose elements are `steps` elements apart along each axis."""
    kind = types.Array(pointer.dtype, len(shape), "A")

    def build(context, builder, signature, operands):
        start, at, shape, steps = operands
        apart = [builder.mul(step, _size_of(context, kind)) for step in cgutils.unpack_tuple(builder, steps)]
        data = builder.gep(start, [at])
        return _emit(context, builder, kind, data, cgutils.unpack_tuple(builder, shape), apart)

    return kind(pointer, types.int64, shape, steps), build


def placed(kind: types.Type) -> types.Type:
    """The type under which a launch passes an argument of this type: an array as its pointer and its shape."""
    if isinstance(kind, types.Array):
        return types.Tuple((types.CPointer(kind.dtype), types.UniTuple(types.int64, kind.ndim)))
    return kind


@intrinsic
def arrays_of(typingctx, places):
    """The arguments that were `placed`, as a tuple: contiguous arrays, and what is no array as it is."""
    kinds = [
        types.Array(place[0].dtype, len(place[1]), "C") if isinstance(place, types.BaseTuple) else place
        for place in places
    ]
    result = types.Tuple(kinds)

    def build(context, builder, signature, operands):
        made = []
        for kind, value in zip(kinds, cgutils.unpack_tuple(builder, operands[0]), strict=True):
            if not isinstance(kind, types.Array):
                made.append(value)
                continue
            data, lengths = cgutils.unpack_tuple(builder, value)
            shape = cgutils.unpack_tuple(builder, lengths)
            strides = [_size_of(context, kind)]
            for length in reversed(shape[1:]):
                strides.insert(0, builder.mul(strides[0], length))
            made.append(_emit(context, builder, kind, data, shape, strides))
        return context.make_tuple(builder, result, made)

    return result(places), build
