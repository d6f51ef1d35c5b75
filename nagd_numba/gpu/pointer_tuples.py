"""The operations of `pointers.py` on several memories at once: the states of a rule.

The memories are those behind a tuple of pointers, or parts of one vector that are `stride` elements apart.  Local
arrays hold `width` elements of the first memory, then those of the next.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .pointers import data_of, element, emit_fetch, emit_load, emit_pointer, emit_put, emit_store
from .target import intrinsic

_I64 = ir.IntType(64)


def _tuple_of(context: Any, builder: Any, kind: types.Type, values: list[Any]) -> Any:
    return context.make_tuple(builder, kind, values)


@intrinsic(prefer_literal=True)
def first_of(typingctx, pointers, count):
    """The first `count` (a literal) pointers of a tuple, which are of one type."""
    number = count.literal_value
    made = pointers if number == len(pointers) else types.UniTuple(pointers[0], number)

    def build(context, builder, signature, operands):
        if made == pointers:
            return operands[0]
        values = [builder.extract_value(operands[0], k) for k in range(number)]
        return _tuple_of(context, builder, made, values)

    return made(pointers, count), build


@intrinsic
def load_each(typingctx, pointers, at):
    """Element `at` of each memory, as a tuple."""
    made = types.UniTuple(element(pointers.dtype), len(pointers))

    def build(context, builder, signature, operands):
        tuple_, index = operands
        values = [
            emit_load(builder, pointers.dtype, builder.extract_value(tuple_, k), index) for k in range(len(pointers))
        ]
        return _tuple_of(context, builder, made, values)

    return made(pointers, types.int64), build


@intrinsic(prefer_literal=True)
def load_strided(typingctx, pointer, at, stride, count):
    """Elements `at`, `at + stride`, ...: `count` (a literal) of them, as a tuple."""
    made = types.UniTuple(element(pointer), count.literal_value)

    def build(context, builder, signature, operands):
        start, at, stride, _ = operands
        places = [builder.add(at, builder.mul(stride, _I64(k))) if k else at for k in range(count.literal_value)]
        return _tuple_of(context, builder, made, [emit_load(builder, pointer, start, place) for place in places])

    return made(pointer, types.int64, types.int64, count), build


@intrinsic
def store_strided(typingctx, pointer, at, stride, values):
    """Elements `at`, `at + stride`, ... become those of the tuple `values`."""

    def build(context, builder, signature, operands):
        start, at, stride, new = operands
        for k in range(len(values)):
            place = builder.add(at, builder.mul(stride, _I64(k))) if k else at
            emit_store(builder, pointer, start, place, builder.extract_value(new, k))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64, values), build


@intrinsic
def store_each(typingctx, pointers, at, values):
    """Element `at` of each memory becomes that of the tuple `values`."""

    def build(context, builder, signature, operands):
        tuple_, index, new = operands
        for k in range(len(pointers)):
            value = builder.extract_value(new, k)
            emit_store(builder, pointers.dtype, builder.extract_value(tuple_, k), index, value)
        return context.get_dummy_value()

    return types.void(pointers, types.int64, values), build


@intrinsic
def pointers_at(typingctx, table, at, like):
    """The addresses from element `at` of the table on, as pointers of the types of the tuple `like`."""

    def build(context, builder, signature, operands):
        start = builder.gep(operands[0], [operands[1]])
        addresses = [builder.load(builder.gep(start, [_I64(k)])) for k in range(len(like))]
        pointers = [emit_pointer(context, builder, kind, x) for kind, x in zip(like, addresses, strict=True)]
        return _tuple_of(context, builder, like, pointers)

    return like(table, types.int64, like), build


@intrinsic(prefer_literal=True)
def fetch_each(typingctx, pointers, at, values, width):
    """`pointers.fetch` from each memory."""

    def build(context, builder, signature, operands):
        target, count = data_of(context, builder, values, operands[2]), width.literal_value
        for k in range(len(pointers)):
            start = builder.gep(builder.extract_value(operands[0], k), [operands[1]])
            emit_fetch(context, builder, pointers.dtype, start, builder.gep(target, [_I64(k * count)]), count)
        return context.get_dummy_value()

    return types.void(pointers, types.int64, values, width), build


@intrinsic(prefer_literal=True)
def put_each(typingctx, pointers, at, values, width):
    """`pointers.put` to each memory."""

    def build(context, builder, signature, operands):
        source, count = data_of(context, builder, values, operands[2]), width.literal_value
        for k in range(len(pointers)):
            start = builder.gep(builder.extract_value(operands[0], k), [operands[1]])
            emit_put(context, builder, pointers.dtype, start, builder.gep(source, [_I64(k * count)]), count)
        return context.get_dummy_value()

    return types.void(pointers, types.int64, values, width), build


@intrinsic(prefer_literal=True)
def pick_each(typingctx, values, at, width, count):
    """Element `at` of each of the `count` (a literal) parts of the local array `values`, as a tuple."""
    made = types.UniTuple(values.dtype, count.literal_value)

    def build(context, builder, signature, operands):
        source = data_of(context, builder, values, operands[0])
        places = [builder.add(operands[1], _I64(k * width.literal_value)) for k in range(count.literal_value)]
        return _tuple_of(context, builder, made, [builder.load(builder.gep(source, [place])) for place in places])

    return made(values, types.int64, width, count), build


@intrinsic(prefer_literal=True)
def place_each(typingctx, values, at, width, new):
    """Element `at` of each part of the local array `values` becomes that of the tuple `new`."""

    def build(context, builder, signature, operands):
        target = data_of(context, builder, values, operands[0])
        for k in range(len(new)):
            place = builder.add(operands[1], _I64(k * width.literal_value))
            builder.store(builder.extract_value(operands[3], k), builder.gep(target, [place]))
        return context.get_dummy_value()

    return types.void(values, types.int64, width, new), build
