"""The matrix products of the network: a tiled kernel with double buffering, and an epilogue for each purpose.

A block of threads makes a square tile of the result, each thread a small square of it in registers.  The operands go
through shared memory, some terms at a time: while those are multiplied, the next are loaded.  At last the tile goes
through shared memory too, so that the epilogue's accesses coalesce; sums never reach the memory of the device.

    HIDDEN    out = dropout(activation(A B + biases))
    OUTPUT    out = A B + biases
    DELTA     out = (A B^T) * derivative of dropout and activation at h
    GRADIENT  out = A^T B + l2 w, added to what is there if `more`
    UPDATE    the same gradient, given to the update rule at once

Each sum is a chain of `fma` in blocks of BLOCK terms, as on the CPU: the bits are the same.  Or, if that is asked for,
tensor cores make the blocks of factors rounded to TF32 (`tf32.py`).  The gradient of the biases, which lie behind the
weights, is one more row of `A^T B`, whose factors are 1.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from ...gpu.compiler import Kernel
from ...gpu.pointer_tuples import pick_each, place_each
from ...gpu.pointers import WIDE, data_of, load, put, store
from ...gpu.target import intrinsic
from ...kernels.jit import inlined
from ...kernels.pointers import pointer
from ...kernels.rounding import add, mul
from ...kernels.rule import Rule
from ...kernels.template import template
from ..sums import BLOCK
from . import epilogues, tf32

HIDDEN, OUTPUT, DELTA, GRADIENT, UPDATE = "hidden", "output", "delta", "gradient", "update"
DEPTHS = {"float32": 16, "float64": 8}  # terms in shared memory at once; divisors of BLOCK
EACH = 4  # rows and columns that a thread makes
RESULTS = EACH * EACH
PAD = 4  # elements between the rows of a tile in shared memory, against conflicts of its banks

_I32 = ir.IntType(32)


class Kind(NamedTuple):
    """Everything that decides the code of a product, but for its purpose and its tile."""

    dtype: str
    activation: str = "identity"
    dropout: bool = False
    source: str | None = None  # the dtype of the data, of which `order` picks the rows of A
    rule: Rule | None = None
    options: tuple[Any, ...] = ()
    tf32: bool = False  # on tensor cores, of factors rounded to TF32


def threads(tile: int) -> int:
    """The threads of a block."""
    return (tile // EACH) ** 2


class Shape(NamedTuple):
    """The shape of a block's work, in elements."""

    tile: int  # rows and columns of the result
    threads: int
    depth: int  # terms in shared memory at once
    pitch: int  # from one term to the next in shared memory
    side: int  # the terms of one operand
    stage: int  # all of shared memory
    loads: int  # elements of an operand that a thread loads
    terms_apart: int  # between them, where they are loaded by terms,
    lines_apart: int  # or by rows (of A) or columns (of B)

    @classmethod
    def of(cls, tile: int, depth: int) -> Shape:
        block, pitch = threads(tile), tile + PAD
        side = depth * pitch
        return cls(
            *(tile, block, depth, pitch, side, max(4 * side, tile * tile)),
            *(tile * depth // block, block // tile, block // depth),
        )


@functools.cache
def kernel(purpose: str, kind: Kind, tile: int) -> Kernel:
    """`kernel(a, order, scale, b, rows, columns, inner, to)`, with the `to` of the purpose's epilogue."""
    scalar = types.float64 if kind.dtype == "float64" else types.float32
    stored = types.CPointer(scalar)
    source = stored if kind.source is None else types.CPointer(getattr(types, kind.source))
    indirect, trans_a, trans_b = kind.source is not None, purpose in (GRADIENT, UPDATE), purpose == DELTA
    shape = Shape.of(tile, DEPTHS[kind.dtype])
    chosen = epilogues.epilogue(purpose, kind, scalar)
    keep = tf32.store_rounded if kind.tf32 else store
    words = [purpose, str(tile), kind.dtype, kind.activation, "dropout" if kind.dropout else "plain"]
    words += ["tf32"] if kind.tf32 else []
    words += [f"of_{kind.source}"] if kind.source is not None else []
    words += [kind.rule.kernel_name(kind.options)] if kind.rule is not None else []
    square = tf32.square.bind(TILE=tile, PITCH=shape.pitch) if kind.tf32 else thread_square.bind(TILE=tile)
    function = product.bind(
        shape=shape,
        SCALAR=scalar,
        OPERANDS=chosen.operands,
        square=inlined(square),
        multiply=tf32.multiply if kind.tf32 else multiply_add,
        find_rows=inlined(find_rows.bind(shape=shape, INDIRECT=indirect and not trans_a)),
        load_a=inlined(load_a.bind(shape=shape, SCALAR=scalar, INDIRECT=indirect, TRANS_A=trans_a)),
        load_b=inlined(load_b.bind(shape=shape, SCALAR=scalar, TRANS_B=trans_b)),
        stage_a=inlined(stage_operand.bind(shape=shape, keep=keep, BY_TERMS=trans_a)),
        stage_b=inlined(stage_operand.bind(shape=shape, keep=keep, BY_TERMS=not trans_b)),
        prefetch=chosen.prefetch,
        write=chosen.write,
    )
    signature = (
        *(source, types.CPointer(types.int64), scalar, stored, types.int64, types.int64, types.int64),
        chosen.to,
    )
    return Kernel(function, f"mlp_{'_'.join(words)}", signature, threads=threads(tile))


@template
def product(
    shape,
    SCALAR,
    OPERANDS,
    square,
    multiply,
    find_rows,
    load_a,
    load_b,
    stage_a,
    stage_b,
    prefetch,
    write,
):
    from ...gpu.target import cuda

    TILE, THREADS, DEPTH, PITCH, SIDE, STAGE, LOADS, TERMS_APART, _ = shape
    GROUP = 128 // SCALAR.bitwidth  # results whose operands a thread reads before it writes the first of them
    ITEMS = GROUP * OPERANDS

    def product(a, order, scale, b, rows, columns, inner, to):
        """A tile of the result, of shape (rows, columns).

        A is stored as (rows, inner), or for A^T as (inner, rows - 1); B as (inner, columns), or for B^T as (columns,
        inner).  With INDIRECT the samples of A are rows `order[0], order[1], ...` of the data, times `scale`.
        """
        shared = pointer(cuda.shared.array(STAGE, SCALAR, alignment=16))
        next_left, next_right = cuda.local.array(LOADS, SCALAR), cuda.local.array(LOADS, SCALAR)
        places = cuda.local.array(LOADS, np.int64)
        sums, totals = cuda.local.array(RESULTS, SCALAR), cuda.local.array(RESULTS, SCALAR)
        operands = cuda.local.array(ITEMS, SCALAR)
        thread = np.int64(cuda.threadIdx.x)
        top, side = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
        row, column, left, right = square(thread)
        half = 0
        find_rows(order, rows, inner, top, thread, places)
        load_a(a, order, scale, rows, inner, top, 0, thread, places, next_left)
        load_b(b, columns, inner, side, 0, thread, next_right)
        stage_a(shared, 0, thread, next_left)
        stage_b(shared, SIDE, thread, next_right)
        cuda.syncthreads()
        for block in range(0, inner, BLOCK):
            for e in range(RESULTS):
                sums[e] = SCALAR(0)
            for start in range(block, min(inner, block + BLOCK), DEPTH):
                following = start + DEPTH
                if following < inner:
                    load_a(a, order, scale, rows, inner, top, following, thread, places, next_left)
                    load_b(b, columns, inner, side, following, thread, next_right)
                multiply(shared, half + left, half + SIDE + right, PITCH, DEPTH, sums)
                if following < inner:
                    half = 2 * SIDE - half
                    stage_a(shared, half, thread, next_left)
                    stage_b(shared, half + SIDE, thread, next_right)
                    cuda.syncthreads()
            for e in range(RESULTS):
                totals[e] = sums[e] if block == 0 else add(totals[e], sums[e])
        cuda.syncthreads()
        for r in range(EACH):
            put(shared, (row + r) * TILE + column, totals, r * EACH, EACH)
        cuda.syncthreads()
        first, j = top + thread // TILE, side + thread % TILE
        for group in range(0, RESULTS, GROUP):
            for e in range(GROUP):
                i = first + (group + e) * TERMS_APART
                if i < rows and j < columns:  # ptxas makes predicated loads of it, and no branch
                    place_each(operands, e, GROUP, prefetch(i * columns + j, j, to))
            for e in range(GROUP):
                i = first + (group + e) * TERMS_APART
                if i < rows and j < columns:
                    total = load(shared, (group + e) * THREADS + thread)
                    write(total, pick_each(operands, e, GROUP, OPERANDS), i * columns + j, i == rows - 1, to)

    return product


@template
def thread_square(TILE):
    def thread_square(thread):
        """First row and column of this thread's results; where its factors begin, in each operand's shared memory."""
        row, column = thread // (TILE // EACH) * EACH, thread % (TILE // EACH) * EACH
        return row, column, row, column

    return thread_square


@intrinsic(prefer_literal=True)
def multiply_add(typingctx, stage, left, right, pitch, depth, sums):
    """Add `depth` terms to the sums: written out, since a loop would cost as much as it does."""

    def build(context, builder, signature, operands):
        memory, left_at, right_at, _, _, array = operands
        scalar = context.get_value_type(stage.dtype)
        target = data_of(context, builder, sums, array)
        places = [builder.gep(target, [_I32(e)]) for e in range(RESULTS)]
        values = [builder.load(place) for place in places]
        each = min(EACH, WIDE * 8 // stage.dtype.bitwidth)  # elements of one access
        kind = ir.VectorType(scalar, each)

        def four(start: Any, term: int) -> list[Any]:
            found = []
            for first in range(0, EACH, each):
                place = builder.gep(start, [_I32(term * pitch.literal_value + first)])
                vector = builder.load(builder.bitcast(place, kind.as_pointer()), align=WIDE)
                found += [builder.extract_element(vector, _I32(e)) for e in range(each)]
            return found

        starts = [builder.gep(memory, [at]) for at in (left_at, right_at)]
        for term in range(depth.literal_value):
            rows, columns = (four(start, term) for start in starts)
            pairs = [(a, b) for a in rows for b in columns]
            values = [builder.fma(a, b, total) for (a, b), total in zip(pairs, values, strict=True)]
        for place, value in zip(places, values, strict=True):
            builder.store(value, place)
        return context.get_dummy_value()

    return types.void(stage, types.int64, types.int64, pitch, depth, sums), build


# A term beyond the last is the product of -0 and 0, which changes no sum: not even one of -0.  What lies outside of a
# matrix is read at another place, and not used: so no branch delays the other reads.


@template
def find_rows(shape, INDIRECT):
    DEPTH, LOADS, LINES_APART = shape.depth, shape.loads, shape.lines_apart

    def find_rows(order, rows, inner, top, thread, places):
        """Where the rows of A begin that this thread loads; -1 beyond the last."""
        if INDIRECT:
            for e in range(LOADS):
                i = top + thread // DEPTH + e * LINES_APART
                places[e] = load(order, i) * inner if i < rows else -1

    return find_rows


@template
def load_a(shape, SCALAR, INDIRECT, TRANS_A):
    TILE, DEPTH, LOADS = shape.tile, shape.depth, shape.loads
    TERMS_APART, LINES_APART = shape.terms_apart, shape.lines_apart

    def load_a(a, order, scale, rows, inner, top, start, thread, places, loaded):
        """This thread's part of A, of the terms from `start` on, into registers."""
        if TRANS_A:
            i, k, width = top + thread % TILE, start + thread // TILE, rows - 1
            place, step = k * width + i, TERMS_APART * width
        else:
            i, k = top + thread // DEPTH, start + thread % DEPTH
            place, step = i * inner + k, LINES_APART * inner
        for e in range(LOADS):
            outside = SCALAR(-0.0)
            if TRANS_A:
                readable = i < width and k < inner
                if INDIRECT:
                    place = load(order, k if readable else 0) * width + i
                if i == width and k < inner:
                    outside = SCALAR(1)
            elif INDIRECT:
                place = places[e] + k
                readable = places[e] >= 0 and k < inner
            else:
                readable = i < rows and k < inner
            value = SCALAR(load(a, place if readable else 0))
            if INDIRECT:
                value = mul(value, scale)
            loaded[e] = value if readable else outside
            place += step
            if TRANS_A:
                k += TERMS_APART
            else:
                i += LINES_APART

    return load_a


@template
def load_b(shape, SCALAR, TRANS_B):
    TILE, DEPTH, LOADS = shape.tile, shape.depth, shape.loads
    TERMS_APART, LINES_APART = shape.terms_apart, shape.lines_apart

    def load_b(b, columns, inner, side, start, thread, loaded):
        """The same of B."""
        if TRANS_B:
            j, k = side + thread // DEPTH, start + thread % DEPTH
            place, step = j * inner + k, LINES_APART * inner
        else:
            j, k = side + thread % TILE, start + thread // TILE
            place, step = k * columns + j, TERMS_APART * columns
        for e in range(LOADS):
            inside = j < columns and k < inner
            value = load(b, place if inside else 0)
            loaded[e] = value if inside else SCALAR(0)
            place += step
            if TRANS_B:
                j += LINES_APART
            else:
                k += TERMS_APART

    return load_b


@template
def stage_operand(shape, keep, BY_TERMS):
    TILE, DEPTH, LOADS, PITCH = shape.tile, shape.depth, shape.loads, shape.pitch
    TERMS_APART, LINES_APART = shape.terms_apart, shape.lines_apart

    def stage_operand(memory, start, thread, loaded):
        """This thread's part of an operand, from registers to shared memory: a row for each term."""
        for e in range(LOADS):
            if BY_TERMS:
                keep(memory, start + (thread // TILE + e * TERMS_APART) * PITCH + thread % TILE, loaded[e])
            else:
                keep(memory, start + thread % DEPTH * PITCH + thread // DEPTH + e * LINES_APART, loaded[e])

    return stage_operand
