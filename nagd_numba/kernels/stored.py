"""Access to arrays whose elements are smaller in memory than in arithmetic, for loops on the CPU.

What a pointer is typed says how its elements are stored: `half.STORAGE` for parameters and gradients, int8 and uint8
for the codes of states (`codes`), whose scales lie behind pointers of their own.  All arithmetic is in float32.
The arrays share no memory, and LLVM is told so: it vectorises the loops without checks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .codes import (
    BLOCK,
    decoded,
    emit_code,
    emit_decoded,
    emit_magnitude,
    emit_scale,
    encoded,
    is_code,
)
from .half import emit_narrow, emit_narrow_at_random, emit_widen, is_half, narrowed, widened
from .jit import python_callable
from .pointers import apart as _apart_of
from .random_bits import emit_random_bits, hashed, word_key

PARAMS, GRADS, EXTRA, STATES = range(4)  # streams; each state has two, codes and scales

_STREAMS = STATES + 2 * 4  # of rules with up to four states; what more of them there are, LLVM looks at itself

_I8, _I32, _I64, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()


def apart(builder: Any, instruction: Any, stream: int) -> None:
    """Tell LLVM that the streams do not overlap."""
    if stream < _STREAMS and not builder.module.triple.startswith("nvptx"):
        _apart_of(builder, instruction, stream, _STREAMS)


def _operation(typing: Any, python: Any) -> Any:
    return python_callable(intrinsic(prefer_literal=True)(typing), python)


def element(pointer: types.CPointer) -> types.Type:
    """The type of the arithmetic on what a pointer points to."""
    return types.float32 if is_half(pointer.dtype) or is_code(pointer.dtype) else pointer.dtype


def _load(typingctx, pointer, i, stream):
    def build(context, builder, signature, operands):
        raw = builder.load(builder.gep(operands[0], [operands[1]]))
        apart(builder, raw, stream.literal_value)
        return emit_widen(builder, pointer.dtype, raw)

    return element(pointer)(pointer, types.int64, stream), build


def _load_python(pointer, i, stream):
    return widened(pointer[i : i + 1])[0]


def _store(typingctx, pointer, i, value, stream):
    def build(context, builder, signature, operands):
        raw = emit_narrow(builder, pointer.dtype, operands[2])
        apart(builder, builder.store(raw, builder.gep(operands[0], [operands[1]])), stream.literal_value)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, element(pointer), stream), build


def _store_python(pointer, i, value, stream):
    pointer[i : i + 1] = narrowed(np.array([value], pointer.dtype if value.itemsize > 4 else np.float32), pointer.dtype)


def _store_at_random(typingctx, pointer, i, value, random, stream):
    def build(context, builder, signature, operands):
        raw = emit_narrow_at_random(builder, pointer.dtype, operands[2], operands[3])
        apart(builder, builder.store(raw, builder.gep(operands[0], [operands[1]])), stream.literal_value)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.float32, types.uint32, stream), build


def _store_at_random_python(pointer, i, value, random, stream):
    pointer[i : i + 1] = narrowed(np.array([value], np.float32), pointer.dtype, np.array([random], np.uint32))


def _rounded_like(typingctx, pointer, value):
    def build(context, builder, signature, operands):
        return emit_widen(builder, pointer.dtype, emit_narrow(builder, pointer.dtype, operands[1]))

    return types.float32(pointer, types.float32), build


def _rounded_like_python(pointer, value):
    return widened(narrowed(np.array([value], np.float32), pointer.dtype))[0]


def _prefetch(typingctx, pointer, i):
    def build(context, builder, signature, operands):
        place = builder.bitcast(builder.gep(operands[0], [operands[1]]), _I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        ask = builder.module.declare_intrinsic("llvm.prefetch.p0", (), kind)
        builder.call(ask, [place, _I32(0), _I32(3), _I32(1)])  # to be read, kept, data
        return context.get_dummy_value()

    return types.void(pointer, types.int64), build


def _prefetch_python(pointer, i):
    pass


def _local_memory(typingctx, size):
    """So many float32 (a constant) in the caller's frame."""
    made = types.CPointer(types.float32)

    def build(context, builder, signature, operands):
        kind = ir.ArrayType(_FLOAT, size.literal_value)
        slot = cgutils.alloca_once(builder, kind)
        slot.align = 64
        return builder.bitcast(slot, _FLOAT.as_pointer())

    return made(size), build


def _local_memory_python(size):
    return np.zeros(size, np.float32)


def _keep_bits(typingctx, memory, at, bits):
    def build(context, builder, signature, operands):
        place = builder.bitcast(operands[0], _I32.as_pointer())
        builder.store(operands[2], builder.gep(place, [operands[1]]))
        return context.get_dummy_value()

    return types.void(memory, types.int64, types.uint32), build


def _keep_bits_python(memory, at, bits):
    memory.view(np.uint32)[at] = bits


def _scales_at(typingctx, states, scales, block):
    made = types.UniTuple(types.float32, len(states))

    def build(context, builder, signature, operands):
        parts = []
        for k, start in enumerate(cgutils.unpack_tuple(builder, operands[1])):
            if is_code(states[k].dtype):
                parts.append(builder.load(builder.gep(start, [operands[2]])))
                apart(builder, parts[-1], STATES + 2 * k + 1)
            else:
                parts.append(ir.Constant(_FLOAT, 0.0))
        return context.make_tuple(builder, made, parts)

    return made(states, scales, types.int64), build


def _scales_at_python(states, scales, block):
    return tuple(x[block] if x.size else np.float32(0) for x in scales)


def _load_each(typingctx, states, i, scales):
    made = types.UniTuple(types.float32, len(states))

    def build(context, builder, signature, operands):
        starts, now = (cgutils.unpack_tuple(builder, operands[k]) for k in (0, 2))
        parts = []
        for k, start in enumerate(starts):
            raw = builder.load(builder.gep(start, [operands[1]]))
            apart(builder, raw, STATES + 2 * k)
            parts.append(emit_decoded(builder, states[k].dtype, raw, now[k]) if is_code(states[k].dtype) else raw)
        return context.make_tuple(builder, made, parts)

    return made(states, types.int64, scales), build


def _load_each_python(states, i, scales):
    return tuple(
        x[i] if x.dtype == np.float32 else decoded(x[i : i + 1], np.array([scale], np.float32))[0]
        for x, scale in zip(states, scales, strict=True)
    )


def _store_each(typingctx, states, i, values, memory, j):
    def build(context, builder, signature, operands):
        starts, values = (cgutils.unpack_tuple(builder, operands[k]) for k in (0, 2))
        for k, (start, value) in enumerate(zip(starts, values, strict=True)):
            if is_code(states[k].dtype):
                at = builder.add(operands[4], ir.Constant(_I64, k * BLOCK))
                builder.store(value, builder.gep(operands[3], [at]))
            else:
                apart(builder, builder.store(value, builder.gep(start, [operands[1]])), STATES + 2 * k)
        return context.get_dummy_value()

    return types.void(states, types.int64, values, memory, types.int64), build


def _store_each_python(states, i, values, memory, j):
    for k, (x, value) in enumerate(zip(states, values, strict=True)):
        if x.dtype == np.float32:
            x[i] = value
        else:
            memory[k * BLOCK + j] = value


def _encode_each(typingctx, states, scales, block, count, memory, first, key, other):
    """The codes and scales of `count` elements from the values that `store_each` has put aside.

    Behind them lie the words of random bits whose lower halves were for the parameters; `first` is the number of the
    block's first element.
    """
    floats, ints = ir.VectorType(_FLOAT, BLOCK), ir.VectorType(_I32, BLOCK)

    def splat(builder, x, kind):
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), x, ir.Constant(_I32, 0))
        zeros = ir.Constant(ir.VectorType(_I32, BLOCK), [0] * BLOCK)
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)

    def vector_at(builder, memory, row, kind):
        place = builder.gep(memory, [ir.Constant(_I64, row * BLOCK)])
        return builder.load(builder.bitcast(place, kind.as_pointer()), align=64)

    def build(context, builder, signature, operands):
        _, _, block, count, memory, first, key, other = operands
        starts, places = (cgutils.unpack_tuple(builder, operands[k]) for k in (0, 1))
        lanes = ir.Constant(ints, list(range(BLOCK)))
        inside = builder.icmp_signed("<", lanes, splat(builder, builder.trunc(count, _I32), ints))
        nothing = ir.Constant(floats, [0.0] * BLOCK)
        words = {}
        for k, start in enumerate(starts):
            kind = states[k].dtype
            if not is_code(kind):
                continue
            word, half = divmod(k + 1, 2)
            if word not in words:
                if word == 0:
                    words[word] = vector_at(builder, memory, len(starts), ints)
                else:
                    elements = builder.add(lanes, splat(builder, first, ints))
                    keys = (splat(builder, x, ints) for x in (key, builder.add(other, _I32(word_key(0, word)))))
                    words[word] = emit_random_bits(builder, elements, *keys)
            random = words[word] if half else builder.shl(words[word], ir.Constant(ints, [16] * BLOCK))
            values = builder.select(inside, vector_at(builder, memory, k, floats), nothing)
            largest = builder.module.declare_intrinsic(
                f"llvm.vector.reduce.smax.v{BLOCK}i32", (), ir.FunctionType(_I32, [ints])
            )
            scale, inverse = emit_scale(builder, kind, builder.call(largest, [emit_magnitude(builder, values)]))
            apart(builder, builder.store(scale, builder.gep(places[k], [block])), STATES + 2 * k + 1)
            made = emit_code(builder, kind, values, splat(builder, inverse, floats), random)
            made = builder.trunc(made, ir.VectorType(_I8, BLOCK))
            there = builder.gep(start, [builder.mul(block, ir.Constant(_I64, BLOCK))])
            whole = builder.icmp_signed("==", count, ir.Constant(_I64, BLOCK))
            with builder.if_else(whole, likely=True) as (then, otherwise):
                with then:
                    store = builder.store(made, builder.bitcast(there, made.type.as_pointer()), align=1)
                    apart(builder, store, STATES + 2 * k)
                with otherwise:
                    slot = cgutils.alloca_once(builder, made.type)
                    builder.store(made, slot)
                    cgutils.raw_memcpy(builder, there, builder.bitcast(slot, _I8.as_pointer()), count, 1)
        return context.get_dummy_value()

    given = (states, scales, types.int64, types.int64, memory, types.uint32, types.uint32, types.uint32)
    return types.void(*given), build


def _encode_each_python(states, scales, block, count, memory, first, key, other):
    for k, (x, scale) in enumerate(zip(states, scales, strict=True)):
        if x.dtype == np.float32:
            continue
        word, half = divmod(k + 1, 2)
        random = hashed(int(first) + np.arange(count), int(key), int(other), word)
        if not half:
            random = random << np.uint32(16)
        at = block * BLOCK
        x[at : at + count], scale[block] = encoded(memory[k * BLOCK : k * BLOCK + count], x.dtype, random)


# load(pointer, i, stream), store(pointer, i, value, stream): an element, rounded to nearest;
# store_at_random(pointer, i, value, random bits, stream);  rounded_like(pointer, value): as an element behind it is
load = _operation(_load, _load_python)
store = _operation(_store, _store_python)
store_at_random = _operation(_store_at_random, _store_at_random_python)
rounded_like = _operation(_rounded_like, _rounded_like_python)
# prefetch(pointer, i): what will be read soon
prefetch = _operation(_prefetch, _prefetch_python)
# local_memory(size): of float32;  keep_bits(memory, at, bits)
local_memory = _operation(_local_memory, _local_memory_python)
keep_bits = _operation(_keep_bits, _keep_bits_python)
# scales_at(states, scales, block), load_each(states, i, the scales there), store_each(states, i, values, memory, j):
# of each state; values that become codes are put aside, until encode_each has all of a block
scales_at = _operation(_scales_at, _scales_at_python)
load_each = _operation(_load_each, _load_each_python)
store_each = _operation(_store_each, _store_each_python)
encode_each = _operation(_encode_each, _encode_each_python)
