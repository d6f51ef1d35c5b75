"""The kernel that carries a rule over device arrays with random rounding, a compensation, or states of 8 bits.

A warp takes a block of 32 elements, a lane an element: what a block needs of all its elements, the largest magnitude
of each state, the lanes find by exchanging registers.  Arithmetic, random bits and codes are those of the kernels for
the host (`kernels.stored_loops`), and so are the bits.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..kernels.codes import BLOCK, emit_code, emit_magnitude, emit_scale, is_code
from ..kernels.half import STORAGE
from ..kernels.random_bits import ahead, emit_random_bits, random_bits, word_key
from ..kernels.rule import Rule
from ..kernels.stored import load_each, scales_at
from ..kernels.stored_loops import MASTER, element_of
from ..kernels.template import template
from .compiler import Kernel, device_function
from .target import intrinsic

THREADS = 256
CODES = {"int8": types.int8, "uint8": types.uint8}

_I1, _I8, _I32, _FLOAT = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.FloatType()
_ALL, _BUTTERFLY, _WIDTH = 0xFFFFFFFF, 3, 0x1F  # lanes, and the mode of the exchange


@functools.cache
def kernel(rule: Rule, options: tuple[Any, ...], form: int, storage: str, states: tuple[str, ...]) -> Kernel:
    """`storage` is the dtype of params and grads, `states` have those of the states: float32, or of codes."""
    stored = types.CPointer(STORAGE[storage])
    single = types.CPointer(types.float32)
    kinds = types.Tuple([types.CPointer(CODES.get(x, types.float32)) for x in states])
    made = device_function(element_of.bind(update=rule.update, OPTIONS=options, FORM=form))
    signature = (
        stored,
        stored,
        types.UniTuple(single if form == MASTER else stored, 1),
        kinds,
        types.UniTuple(single, len(states)),
        types.int64,
        types.uint32,
        types.uint32,
        types.uint32,
        types.UniTuple(types.float32, rule.constant_count),
    )
    name = f"{rule.kernel_name(options)}_stored{form}_{storage}_{'_'.join(states)}"
    return Kernel(warps_of_blocks.bind(element=made), name, signature)


@template
def warps_of_blocks(element):
    from .target import cuda

    def warps_of_blocks(params, grads, extra, states, scales, size, index, key, other, scalars):
        """`index` is the number of the first element in the step."""
        lane = np.int64(cuda.threadIdx.x) % BLOCK
        block, warps = np.int64(cuda.grid(1)) // BLOCK, np.int64(cuda.gridsize(1)) // BLOCK
        while block * BLOCK < size:
            i = block * BLOCK + lane
            first = ahead(index, block * BLOCK)
            random = random_bits(first, lane, key, other)
            now = scales_at(states, scales, block)
            state = now
            if i < size:
                state = element(params, grads, extra, load_each(states, i, now), i, random, scalars)
            cuda.syncwarp()  # every lane has read the scales before one writes them
            store_lanes(states, scales, block, i, i < size, state, random, ahead(first, lane), key, other)
            block += warps

    return warps_of_blocks


@intrinsic
def store_lanes(typingctx, states, scales, block, i, inside, values, random, number, key, other):
    """Each lane's values of the states of its element; all lanes of a warp take part, those that are `inside` store."""

    def largest(builder, mine):
        pair = ir.LiteralStructType([_I32, _I1])
        kind = ir.FunctionType(pair, [_I32] * 5)
        exchange = cgutils.get_or_insert_function(builder.module, kind, "llvm.nvvm.shfl.sync.i32")
        for distance in (16, 8, 4, 2, 1):
            words = [_I32(x) for x in (_ALL, _BUTTERFLY)], [_I32(x) for x in (distance, _WIDTH)]
            theirs = builder.extract_value(builder.call(exchange, [*words[0], mine, *words[1]]), 0)
            mine = builder.select(builder.icmp_signed(">", theirs, mine), theirs, mine)
        return mine

    def build(context, builder, signature, operands):
        _, _, block, i, inside, _, random, number, key, other = operands
        starts, places, values = (cgutils.unpack_tuple(builder, operands[k]) for k in (0, 1, 5))
        for k, (start, value) in enumerate(zip(starts, values, strict=True)):
            kind = states[k].dtype
            if not is_code(kind):
                with builder.if_then(inside):
                    builder.store(value, builder.gep(start, [i]))
                continue
            word, half = divmod(k + 1, 2)
            bits = random
            if word > 0:
                bits = emit_random_bits(builder, number, key, builder.add(other, _I32(word_key(0, word))))
            if not half:
                bits = builder.shl(bits, _I32(16))
            value = builder.select(inside, value, ir.Constant(_FLOAT, 0.0))
            scale, inverse = emit_scale(builder, kind, largest(builder, emit_magnitude(builder, value)))
            code = builder.trunc(emit_code(builder, kind, value, inverse, bits), _I8)
            with builder.if_then(inside):
                builder.store(code, builder.gep(start, [i]))
            with builder.if_then(builder.icmp_signed("==", i, builder.mul(block, ir.IntType(64)(BLOCK)))):
                builder.store(scale, builder.gep(places[k], [block]))
        return context.get_dummy_value()

    given = (types.int64, types.int64, types.boolean, values, *(types.uint32,) * 4)
    return types.void(states, scales, *given), build
