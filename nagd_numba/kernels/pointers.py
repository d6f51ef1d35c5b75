"""Bare addresses of arrays, and access through them.

Compiled functions pass pointers: an array costs a handful of arguments at each call, and its negative indices a branch
at each access.  What a pointer points at must outlive its use.  From Python (with the JIT off, and in the simulator)
a pointer is a flat view of the array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .jit import JIT_OFF, python_callable


def address_of_array(x: np.ndarray, rows: bool = False) -> Any:
    """Where an array begins, from Python; with the JIT off the array, flat or (with `rows`) with flat rows."""
    if JIT_OFF:
        return x.reshape(len(x), -1) if rows else x.reshape(-1)
    return x.ctypes.data


def _operation(typing: Callable, python: Callable, literal: bool = False) -> Any:
    return python_callable(intrinsic(prefer_literal=True)(typing) if literal else intrinsic(typing), python)


def _pointer(typingctx, x):
    def build(context, builder, signature, operands):
        return context.make_array(signature.args[0])(context, builder, operands[0]).data

    return types.CPointer(x.dtype)(x), build


def _pointer_python(x):
    return x.reshape(-1)


def _pointers(typingctx, arrays):
    made = types.Tuple([types.CPointer(x.dtype) for x in arrays])

    def build(context, builder, signature, operands):
        parts = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[0], cgutils.unpack_tuple(builder, operands[0]), strict=True)
        ]
        return context.make_tuple(builder, signature.return_type, parts)

    return made(arrays), build


def _pointers_python(arrays):
    return tuple(x.reshape(-1) for x in arrays)


def _address(typingctx, x):
    """Signed: differences of unsigned addresses wrap around."""

    def build(context, builder, signature, operands):
        (kind,), (value,) = signature.args, operands
        base = value if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, value).data
        return builder.ptrtoint(base, ir.IntType(64))

    return types.int64(x), build


def _address_python(x):
    return np.int64(x.ctypes.data)


def _addresses(typingctx, arrays):
    made = types.UniTuple(types.int64, len(arrays))

    def build(context, builder, signature, operands):
        parts = []
        for kind, value in zip(signature.args[0], cgutils.unpack_tuple(builder, operands[0]), strict=True):
            here = value if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, value).data
            parts.append(builder.ptrtoint(here, ir.IntType(64)))
        return context.make_tuple(builder, made, parts)

    return made(arrays), build


def _addresses_python(arrays):
    return tuple(np.int64(x.ctypes.data) for x in arrays)


def _lengths(typingctx, arrays):
    made = types.UniTuple(types.int64, len(arrays))

    def build(context, builder, signature, operands):
        parts = [
            context.make_array(kind)(context, builder, value).nitems
            for kind, value in zip(signature.args[0], cgutils.unpack_tuple(builder, operands[0]), strict=True)
        ]
        return context.make_tuple(builder, made, parts)

    return made(arrays), build


def _lengths_python(arrays):
    return tuple(x.size for x in arrays)


def _as_integer(typingctx, x):
    def build(context, builder, signature, operands):
        return builder.ptrtoint(operands[0], ir.IntType(64))

    return types.int64(x), build


def _as_integer_python(x):
    return x


def _pointer_at(typingctx, address, kind):
    if not isinstance(kind, types.NumberClass):
        raise TypingError(f"a type of numbers is needed, got {kind}")
    made = types.CPointer(kind.dtype)

    def build(context, builder, signature, operands):
        return builder.inttoptr(operands[0], context.get_value_type(made))

    return made(types.int64, kind), build


def _pointer_at_python(address, kind):
    return address


def _keep_alive(typingctx, *arrays):
    def build(context, builder, signature, operands):
        return context.get_dummy_value()

    return types.void(types.StarArgTuple(arrays)), build


def _keep_alive_python(*arrays):
    pass


def _shifted(typingctx, x, offset):
    def build(context, builder, signature, operands):
        return builder.gep(operands[0], [operands[1]])

    return x(x, types.int64), build


def _shifted_python(x, offset):
    return x[offset:]


def _row(typingctx, address, k, stride):
    def build(context, builder, signature, operands):
        return builder.add(operands[0], builder.mul(operands[1], operands[2]))

    return types.int64(types.int64, types.int64, types.int64), build


def _row_python(address, k, stride):
    return address[k]


def _load_each(typingctx, pointers, i):
    kinds = [pointer.dtype for pointer in pointers]
    made = types.Tuple(kinds)

    def build(context, builder, signature, operands):
        parts = [builder.load(builder.gep(base, [operands[1]])) for base in cgutils.unpack_tuple(builder, operands[0])]
        return context.make_tuple(builder, made, parts)

    return made(pointers, types.int64), build


def _load_each_python(pointers, i):
    return tuple(x[i] for x in pointers)


def _store_each(typingctx, pointers, i, values):
    if len(pointers) < len(values) or any(p.dtype != v for p, v in zip(pointers, values, strict=False)):
        raise TypingError(f"{values} cannot be stored at {pointers}")

    def build(context, builder, signature, operands):
        for base, value in zip(*(cgutils.unpack_tuple(builder, operands[k]) for k in (0, 2)), strict=False):
            builder.store(value, builder.gep(base, [operands[1]]))
        return context.get_dummy_value()

    return types.void(pointers, types.int64, values), build


def _store_each_python(pointers, i, values):
    for x, value in zip(pointers, values, strict=False):
        x[i] = value


def _load_tuple(typingctx, x, offset, count):
    if not isinstance(count, types.IntegerLiteral):
        raise TypingError(f"the count must be a constant, got {count}")
    made = types.UniTuple(x.dtype, count.literal_value)

    def build(context, builder, signature, operands):
        base = builder.gep(operands[0], [operands[1]])
        parts = [builder.load(builder.gep(base, [ir.Constant(ir.IntType(64), k)])) for k in range(made.count)]
        return context.make_tuple(builder, made, parts)

    return made(x, types.int64, count), build


def _load_tuple_python(x, offset, count):
    return tuple(x[offset + k] for k in range(count))


def _spread(typingctx, x, stride, count):
    if not isinstance(count, types.IntegerLiteral):
        raise TypingError(f"the count must be a constant, got {count}")
    made = types.UniTuple(x, count.literal_value)

    def build(context, builder, signature, operands):
        size = ir.IntType(64)
        parts = [builder.gep(operands[0], [builder.mul(operands[1], ir.Constant(size, k))]) for k in range(made.count)]
        return context.make_tuple(builder, made, parts)

    return made(x, types.int64, count), build


def _spread_python(x, stride, count):
    return tuple(x[k * stride :] for k in range(count))


def _spill(typingctx, values):
    def build(context, builder, signature, operands):
        slot = cgutils.alloca_once(builder, context.get_data_type(values))
        builder.store(context.data_model_manager[values].as_data(builder, operands[0]), slot)
        return builder.ptrtoint(slot, ir.IntType(64))

    return types.int64(values), build


def _spill_python(values):
    return values


def restorer(kind: Any) -> Any:
    """`restore(address)`: the tuple of type `kind` that `spill` has put there."""

    def restore(typingctx, address):
        def build(context, builder, signature, operands):
            model = context.data_model_manager[kind]
            slot = builder.inttoptr(operands[0], model.get_data_type().as_pointer())
            return borrowed(context, builder, kind, model.from_data(builder, builder.load(slot)))

        return kind(types.int64), build

    def python(address):
        return address

    return _operation(restore, python)


def borrowed(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """A value whose arrays have no owner, so that no references are counted: what it was copied from has them."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo, array.parent = (cgutils.get_null_value(x.type) for x in (array.meminfo, array.parent))
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        kinds: Any = kind
        parts = zip(kinds, cgutils.unpack_tuple(builder, value), strict=True)
        return context.make_tuple(builder, kind, [borrowed(context, builder, *part) for part in parts])
    if context.enable_nrt:
        context.nrt.incref(builder, kind, value)
    return value


STREAMS = 12  # memory that a loop goes through at once, at most


def _peek(typingctx, x, i, stream):
    number = stream.literal_value

    def build(context, builder, signature, operands):
        loaded = builder.load(builder.gep(operands[0], [operands[1]]))
        apart(builder, loaded, number)
        return loaded

    return x.dtype(x, types.int64, stream), build


def _poke(typingctx, x, i, value, stream):
    number = stream.literal_value

    def build(context, builder, signature, operands):
        stored = builder.store(operands[2], builder.gep(operands[0], [operands[1]]))
        apart(builder, stored, number)
        return context.get_dummy_value()

    return types.void(x, types.int64, value, stream), build


def _peek_each(typingctx, pointers, i, stream):
    made = types.Tuple([pointer.dtype for pointer in pointers])
    number = stream.literal_value

    def build(context, builder, signature, operands):
        parts = []
        for k, base in enumerate(cgutils.unpack_tuple(builder, operands[0])):
            parts.append(builder.load(builder.gep(base, [operands[1]])))
            apart(builder, parts[-1], number + k)
        return context.make_tuple(builder, made, parts)

    return made(pointers, types.int64, stream), build


def _poke_each(typingctx, pointers, i, values, stream):
    number = stream.literal_value

    def build(context, builder, signature, operands):
        bases, stored = (cgutils.unpack_tuple(builder, operands[k]) for k in (0, 2))
        for k, (base, value) in enumerate(zip(bases, stored, strict=False)):
            apart(builder, builder.store(value, builder.gep(base, [operands[1]])), number + k)
        return context.get_dummy_value()

    return types.void(pointers, types.int64, values, stream), build


def apart(builder: Any, instruction: Any, stream: int, streams: int = STREAMS) -> None:
    """Tell LLVM that the streams do not overlap."""
    module = builder.module
    domain = module.add_metadata([ir.MetaDataString(module, "tile")])
    scopes = [module.add_metadata([ir.MetaDataString(module, f"stream {k}"), domain]) for k in range(streams)]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[stream]]))
    instruction.set_metadata("noalias", module.add_metadata([s for k, s in enumerate(scopes) if k != stream]))


def _peek_python(x, i, stream):
    return x[i]


def _poke_python(x, i, value, stream):
    x[i] = value


def _peek_each_python(pointers, i, stream):
    return tuple(x[i] for x in pointers)


def _poke_each_python(pointers, i, values, stream):
    for x, value in zip(pointers, values, strict=False):
        x[i] = value


# pointer(array), pointers(tuple of arrays): where they begin;  address(array or pointer): the same as a signed integer
pointer = _operation(_pointer, _pointer_python)
pointers = _operation(_pointers, _pointers_python)
address = _operation(_address, _address_python)
# addresses(tuple of arrays or pointers), lengths(tuple of arrays): tuples of integers
addresses = _operation(_addresses, _addresses_python)
lengths = _operation(_lengths, _lengths_python)
# as_integer(pointer), pointer_at(integer, np.float32): a pointer to anything as an integer, and back;
# shifted(pointer, elements)
as_integer = _operation(_as_integer, _as_integer_python)
pointer_at = _operation(_pointer_at, _pointer_at_python)
shifted = _operation(_shifted, _shifted_python)
# keep_alive(arrays...): Numba frees an array after its last use, and a use of its pointer is none
keep_alive = _operation(_keep_alive, _keep_alive_python)
# row(address, k, stride): the address of row k of a matrix whose rows are `stride` bytes apart
row = _operation(_row, _row_python)
# load_each(pointers, i), store_each(pointers, i, values): element i behind each pointer of a tuple, or the first of it
load_each = _operation(_load_each, _load_each_python)
store_each = _operation(_store_each, _store_each_python)
# load_tuple(pointer, offset, count): so many elements from there on;  spread(pointer, stride, count): pointers to the
# parts of a vector, `stride` elements apart.  The counts are constants.
load_tuple = _operation(_load_tuple, _load_tuple_python, literal=True)
spread = _operation(_spread, _spread_python, literal=True)
# spill(tuple): the address of a copy of it, which lives as long as the caller runs;  see `restorer`
spill = _operation(_spill, _spill_python)
# peek(pointer, i, stream), poke(pointer, i, value, stream): element i, of memory that no other stream (a constant below
# STREAMS) writes to: LLVM then vectorises without checks for overlap
peek = _operation(_peek, _peek_python, literal=True)
poke = _operation(_poke, _poke_python, literal=True)
# peek_each(pointers, i, first stream), poke_each(pointers, i, values, first stream): the same for a tuple of pointers
peek_each = _operation(_peek_each, _peek_each_python, literal=True)
poke_each = _operation(_poke_each, _poke_each_python, literal=True)
