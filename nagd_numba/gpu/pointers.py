"""Typed loads and stores through bare pointers; local arrays, moved from and to memory 16 bytes at a time.

NVVM turns neighbouring scalar accesses into wide ones only where it can prove the alignment, and of a pointer that
came as an argument it knows nothing.  `fetch` and `put` say it: the address must be a multiple of 16.

Half-precision memory is read and written through pointers to integers of 16 bits, which say nothing of the format; it
has a type of its own (`kernels.half.STORAGE`), and is float32 in arithmetic.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..kernels.half import emit_narrow, emit_widen, is_half
from .target import intrinsic

ITEM_BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
WIDE = 16  # bytes of the widest access of every architecture

_I16, _I32, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()


def element(pointer: types.CPointer) -> types.Type:
    """The type of the arithmetic on what a pointer points to."""
    return types.float32 if is_half(pointer.dtype) else pointer.dtype


def emit_load(builder: Any, pointer: types.CPointer, start: Any, at: Any) -> Any:
    return emit_widen(builder, pointer.dtype, builder.load(builder.gep(start, [at])))


def emit_store(builder: Any, pointer: types.CPointer, start: Any, at: Any, value: Any) -> None:
    builder.store(emit_narrow(builder, pointer.dtype, value), builder.gep(start, [at]))


@intrinsic
def load(typingctx, pointer, at):
    """Element `at` of the memory."""

    def build(context, builder, signature, operands):
        return emit_load(builder, pointer, *operands)

    return element(pointer)(pointer, types.int64), build


@intrinsic
def store(typingctx, pointer, at, value):
    """Element `at` of the memory becomes `value`, rounded."""

    def build(context, builder, signature, operands):
        emit_store(builder, pointer, *operands)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, element(pointer)), build


@intrinsic
def moved(typingctx, pointer, by):
    """The pointer to what lies `by` elements further."""

    def build(context, builder, signature, operands):
        return builder.gep(operands[0], [operands[1]])

    return pointer(pointer, types.int64), build


@intrinsic
def address(typingctx, x):
    """The address of a pointer, or of the first element of an array, as an int64."""

    def build(context, builder, signature, operands):
        place = operands[0] if isinstance(x, types.CPointer) else data_of(context, builder, x, operands[0])
        return builder.ptrtoint(place, ir.IntType(64))

    return types.int64(x), build


@intrinsic
def pointer_at(typingctx, number, like):
    """An address as a pointer of the type of `like`."""

    def build(context, builder, signature, operands):
        return emit_pointer(context, builder, like, operands[0])

    return like(types.int64, like), build


def emit_pointer(context: Any, builder: Any, kind: types.CPointer, number: Any) -> Any:
    """An address in the device's memory: said so, since NVVM would otherwise ask at each access what memory it is."""
    pointee = context.get_value_type(kind.dtype)
    there = builder.inttoptr(number, ir.PointerType(pointee, 1))
    return builder.addrspacecast(there, context.get_value_type(kind))


def data_of(context: Any, builder: Any, kind: types.Array, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


def emit_fetch(context: Any, builder: Any, pointer: types.CPointer, start: Any, target: Any, width: int) -> None:
    """`width` elements from the pointer `start` to the pointer `target` into a local array."""
    for place, kind, first, each in _pieces(context, builder, pointer, start, width):
        vector = builder.load(builder.bitcast(place, kind.as_pointer()), align=_alignment(pointer, each))
        for e in range(each):
            if _packed(pointer):
                word = builder.extract_element(vector, _I32(e // 2))
                raw = builder.trunc(builder.lshr(word, _I32(16 * (e % 2))), _I16)
            else:
                raw = builder.extract_element(vector, _I32(e))
            builder.store(emit_widen(builder, pointer.dtype, raw), builder.gep(target, [_I32(first + e)]))


def emit_put(context: Any, builder: Any, pointer: types.CPointer, start: Any, source: Any, width: int) -> None:
    """`width` elements from a local array to the pointer `start`."""
    for place, kind, first, each in _pieces(context, builder, pointer, start, width):
        raw = [
            emit_narrow(builder, pointer.dtype, builder.load(builder.gep(source, [_I32(first + e)])))
            for e in range(each)
        ]
        if _packed(pointer):
            halves = [builder.zext(value, _I32) for value in raw]
            pairs = zip(halves[::2], halves[1::2], strict=True)
            raw = [builder.or_(low, builder.shl(high, _I32(16))) for low, high in pairs]
        vector = ir.Constant(kind, ir.Undefined)
        for e, value in enumerate(raw):
            vector = builder.insert_element(vector, value, _I32(e))
        builder.store(vector, builder.bitcast(place, kind.as_pointer()), align=_alignment(pointer, each))


def _pieces(context: Any, builder: Any, pointer: types.CPointer, start: Any, width: int) -> Any:
    """Each access that together move `width` elements: where, of what type, from which element on, how many."""
    each = min(width, WIDE * 8 // pointer.dtype.bitwidth)
    # NVVM cuts vectors of 16-bit elements in two: pairs of them travel as words.
    kind = (
        ir.VectorType(_I32, each // 2)
        if _packed(pointer)
        else ir.VectorType(context.get_value_type(pointer.dtype), each)
    )
    for first in range(0, width, each):
        yield builder.gep(start, [_I32(first)]), kind, first, each


def _packed(pointer: types.CPointer) -> bool:
    return pointer.dtype.bitwidth == 16


def _alignment(pointer: types.CPointer, elements: int) -> int:
    return elements * pointer.dtype.bitwidth // 8


@intrinsic(prefer_literal=True)
def fetch(typingctx, pointer, at, values, first, width):
    """The `width` (a literal) elements from `at` on, to those from `first` on of the local array `values`."""

    def build(context, builder, signature, operands):
        start = builder.gep(operands[0], [operands[1]])
        target = builder.gep(data_of(context, builder, values, operands[2]), [operands[3]])
        emit_fetch(context, builder, pointer, start, target, width.literal_value)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, values, types.int64, width), build


@intrinsic(prefer_literal=True)
def put(typingctx, pointer, at, values, first, width):
    """The `width` (a literal) elements from `first` on of the local array `values`, rounded, to those from `at` on."""

    def build(context, builder, signature, operands):
        start = builder.gep(operands[0], [operands[1]])
        source = builder.gep(data_of(context, builder, values, operands[2]), [operands[3]])
        emit_put(context, builder, pointer, start, source, width.literal_value)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, values, types.int64, width), build


@intrinsic(prefer_literal=True)
def marks_at(typingctx, pointer, at, width):
    """Bit `e` of the result tells whether byte `at + e` of `width` (a literal) bytes, which are aligned, is not 0."""

    def build(context, builder, signature, operands):
        count, kind = width.literal_value, ir.IntType(64)
        vector = ir.VectorType(ir.IntType(8), count).as_pointer()
        start = builder.bitcast(builder.gep(operands[0], [operands[1]]), vector)
        given, marks = builder.load(start, align=count), kind(0)
        for e in range(count):
            byte = builder.extract_element(given, _I32(e))
            marked = builder.icmp_unsigned("!=", byte, byte.type(0))
            marks = builder.or_(marks, builder.select(marked, kind(1 << e), kind(0)))
        return marks

    return types.int64(pointer, types.int64, width), build


@intrinsic
def dynamic_shared(typingctx, like):
    """The block's dynamic shared memory, whose size the launch gives, as a pointer of the type of `like`."""

    def build(context, builder, signature, operands):
        module = builder.module
        kind = ir.ArrayType(context.get_value_type(like.dtype), 0)
        name = f"nagd_shared_{like.dtype}"
        memory = module.globals.get(name)
        if memory is None:
            memory = cgutils.add_global_variable(module, kind, name, addrspace=3)
            memory.linkage = "external"
            memory.align = WIDE
        generic = builder.addrspacecast(memory, ir.PointerType(kind), "generic")
        return builder.bitcast(generic, context.get_value_type(like))

    return like(like), build


@intrinsic
def quotient(typingctx, a, b):
    """`a // b` of whole numbers from 0 on, below 2^31: the 64-bit division takes five times as long."""

    def build(context, builder, signature, operands):
        a, b = (builder.trunc(x, _I32) for x in operands)
        return builder.zext(builder.udiv(a, b), ir.IntType(64))

    return types.int64(types.int64, types.int64), build


@intrinsic
def small_quotient(typingctx, a, b):
    """The same of numbers below 2^20, in a third of the instructions.

    `(a + 1/2) / b` is at least `1/(2b)` from a whole number, and what is found within 2^-22 of it, relative.
    """

    def build(context, builder, signature, operands):
        a, b = (builder.uitofp(builder.trunc(x, _I32), _FLOAT) for x in operands)
        kind = ir.FunctionType(_FLOAT, [_FLOAT, _FLOAT])
        divide = cgutils.get_or_insert_function(builder.module, kind, "llvm.nvvm.div.approx.ftz.f")
        found = builder.call(divide, [builder.fadd(a, ir.Constant(_FLOAT, 0.5)), b])
        return builder.zext(builder.fptoui(found, _I32), ir.IntType(64))

    return types.int64(types.int64, types.int64), build


@intrinsic
def narrow(typingctx, a):
    """A whole number from 0 on, below 2^32: the compiler sees that it is, and need not multiply 64 bits."""

    def build(context, builder, signature, operands):
        return builder.zext(builder.trunc(operands[0], _I32), ir.IntType(64))

    return types.int64(types.int64), build


@intrinsic
def less(typingctx, a, b):
    """`a < b` of such numbers: one instruction, not two."""

    def build(context, builder, signature, operands):
        return builder.icmp_unsigned("<", *(builder.trunc(x, _I32) for x in operands))

    return types.boolean(types.int64, types.int64), build


@intrinsic
def least(typingctx, a, b):
    """The lesser of such numbers."""

    def build(context, builder, signature, operands):
        a, b = (builder.trunc(x, _I32) for x in operands)
        return builder.zext(builder.select(builder.icmp_unsigned("<", a, b), a, b), ir.IntType(64))

    return types.int64(types.int64, types.int64), build


@intrinsic
def doubles_at(typingctx, pointer, at):
    """The memory from element `at` on as float64, which must be at a multiple of 8 bytes."""

    def build(context, builder, signature, operands):
        return builder.bitcast(builder.gep(operands[0], [operands[1]]), ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(pointer, types.int64), build
