"""The matrix products of the network: a tiled kernel with double buffering, and an epilogue for each purpose.

A block of threads makes a square tile of the result, each thread 8 x 8 or 4 x 4 of it in registers.  The operands go
through shared memory (`staging.py`), some terms at a time: while those are multiplied, the next are loaded.  At last
the tile goes through shared memory too, so that the epilogue's accesses coalesce.

    HIDDEN    out = dropout(activation(A B + biases))
    OUTPUT    out = A B + biases
    DELTA     out = (A B^T) * derivative of dropout and activation at h
    GRADIENT  out = A^T B + l2 w, added to what is there if `more`
    UPDATE    the same gradient, given to the update rule at once

Each sum is a chain of `fma` in blocks of BLOCK terms, as on the CPU: the bits are the same, also where these blocks are
made apart (`split.py`).  Nothing is padded with zeros: no more terms are multiplied than there are.  Or, if that is
asked for, tensor cores make the blocks of factors rounded to TF32 (`tf32.py`).  The gradient of the biases, which lie
behind the weights, is one more row of `A^T B`, whose factors are 1.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from ...gpu.compiler import Kernel
from ...gpu.pointer_tuples import pick_each, place_each
from ...gpu.pointers import WIDE, data_of, least, less, load, narrow, put, store
from ...gpu.target import intrinsic
from ...kernels.jit import inlined
from ...kernels.pointers import pointer
from ...kernels.rounding import add
from ...kernels.rule import Rule
from ...kernels.template import template
from ..sums import BLOCK
from . import epilogues, tf32
from .staging import GROUP, Shape, as_it_is, find_lines, load_operand, stage_operand

HIDDEN, OUTPUT, DELTA, GRADIENT, UPDATE = "hidden", "output", "delta", "gradient", "update"
WIDEST = 1 << 28  # units of a layer: the bytes of a matrix's row are counted in 32 bits

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


def check(sizes: tuple[int, ...]) -> None:
    """Raise unless products can have layers of these sizes."""
    if max(sizes) > WIDEST:
        raise ValueError(f"sizes is {sizes}; on a CUDA device a layer has {WIDEST} units at most: train it on the CPU")


def shape_of(purpose: str, kind: Kind, tile: int) -> Shape:
    """A thread makes 8 x 8 results of a large tile in float32, or else 4 x 4; so do the lanes of `tf32`.

    Small tiles are for products that leave multiprocessors idle: there twice as many terms are on the way at once.
    """
    if kind.dtype == "float64":  # with other depths ptxas spills a register
        return Shape.of(tile, 4, 8 if tile == 64 and purpose in (HIDDEN, OUTPUT) else 16, 8)
    if kind.tf32:
        return Shape.of(tile, 4, 16, 4)
    return Shape.of(tile, 8, 16, 4) if tile == 64 else Shape.of(tile, 4, 32, 4)


def words(kind: Kind) -> str:
    """What names a kernel, but for its purpose and tile."""
    found = [kind.dtype, kind.activation, "dropout" if kind.dropout else "plain"]
    found += ["tf32"] if kind.tf32 else []
    found += [f"of_{kind.source}"] if kind.source is not None else []
    found += [kind.rule.kernel_name(kind.options)] if kind.rule is not None else []
    return "_".join(found)


@functools.cache
def kernel(purpose: str, kind: Kind, tile: int) -> Kernel:
    """`kernel(a, order, scale, b, rows, columns, inner, to)`, with the `to` of the purpose's epilogue."""
    scalar, shape = _scalar(kind), shape_of(purpose, kind, tile)
    chosen = epilogues.epilogue(purpose, kind, scalar)
    finish = finish_tile.bind(
        shape=shape, SCALAR=scalar, OPERANDS=chosen.operands, prefetch=chosen.prefetch, write=chosen.write
    )
    function, signature = _bound(purpose, kind, shape, finish, chosen.to, split=False)
    return Kernel(function, f"mlp_{purpose}_{tile}_{words(kind)}", signature, threads=shape.threads)


@functools.cache
def part_kernel(purpose: str, kind: Kind, tile: int) -> Kernel:
    """`kernel(a, order, scale, b, rows, columns, inner, (partial,))`: the sums of each block of terms, for `split`."""
    shape, to = shape_of(purpose, kind, tile), types.Tuple((types.CPointer(_scalar(kind)),))
    function, signature = _bound(purpose, kind, shape, keep_part.bind(shape=shape), to, split=True)
    return Kernel(function, f"mlp_part_{purpose}_{tile}_{words(kind)}", signature, threads=shape.threads)


def _bound(purpose: str, kind: Kind, shape: Shape, finish: Any, to: types.Tuple, split: bool) -> tuple[Any, Any]:
    """A product with its parts, and its signature."""
    scalar = _scalar(kind)
    stored = types.CPointer(scalar)
    source = stored if kind.source is None else types.CPointer(getattr(types, kind.source))
    ordered, trans_a, trans_b = kind.source is not None, purpose in (GRADIENT, UPDATE), purpose == DELTA
    if kind.tf32:
        square, multiply = tf32.square.bind(shape=shape), tf32.multiply.bind(shape=shape)
    else:
        square, multiply = thread_square.bind(shape=shape), multiply_terms.bind(shape=shape)
    to_a, to_b = (tf32.rounded_a, tf32.rounded_b) if kind.tf32 else (as_it_is, as_it_is)
    a_kind: dict[str, Any] = {
        "shape": shape,
        "ITEM": source.dtype.bitwidth // 8,
        "BY_TERMS": trans_a,
        "ORDERED": ordered,
    }
    b_kind: dict[str, Any] = {"shape": shape, "ITEM": _bytes(scalar), "BY_TERMS": not trans_b, "ORDERED": False}
    load_a = load_operand.bind(**a_kind, SCALAR=scalar, STORED=source.dtype, ONES=trans_a, convert=inlined(to_a))
    load_b = load_operand.bind(**b_kind, SCALAR=scalar, STORED=scalar, ONES=False, convert=inlined(to_b))
    function = product.bind(
        shape=shape,
        SCALAR=scalar,
        TRANS_A=trans_a,
        SPLIT=split,
        square=inlined(square),
        multiply=inlined(multiply),
        find_a=inlined(find_lines.bind(**a_kind)),
        find_b=inlined(find_lines.bind(**b_kind)),
        load_a=inlined(load_a),
        load_b=inlined(load_b),
        stage_a=inlined(stage_operand.bind(shape=shape, BY_TERMS=trans_a)),
        stage_b=inlined(stage_operand.bind(shape=shape, BY_TERMS=not trans_b)),
        finish=inlined(finish),
    )
    signature = source, types.CPointer(types.int64), scalar, stored, types.int64, types.int64, types.int64, to
    return function, signature


def _scalar(kind: Kind) -> types.Float:
    return types.float64 if kind.dtype == "float64" else types.float32


def _bytes(kind: Any) -> int:
    return int(kind.bitwidth) // 8


@template
def product(
    shape, SCALAR, TRANS_A, SPLIT, square, multiply, find_a, find_b, load_a, load_b, stage_a, stage_b, finish
):  # fmt: skip
    from ...gpu.target import cuda

    TILE, EACH, _, DEPTH, _, SIDE, STAGE, LOADS, *_ = shape
    RESULTS, PLACES, APART = EACH * EACH, LOADS // shape.wide, TILE // (EACH // GROUP)

    def product(a, order, scale, b, rows, columns, inner, to):
        """A tile of the result, of shape (rows, columns); with SPLIT of BLOCK of its terms.

        A is stored as (rows, inner), or for A^T as (inner, rows - 1); B as (inner, columns), or for B^T as (columns,
        inner).  Of data the samples of A are rows `order[0], order[1], ...`, times `scale`.
        """
        shared = pointer(cuda.shared.array(STAGE, SCALAR, alignment=16))
        next_left, next_right = cuda.local.array(LOADS, SCALAR), cuda.local.array(LOADS, SCALAR)
        left_lines, right_lines = cuda.local.array(PLACES, np.int64), cuda.local.array(PLACES, np.int64)
        sums, totals = cuda.local.array(RESULTS, SCALAR), cuda.local.array(RESULTS, SCALAR)
        thread, inner = narrow(cuda.threadIdx.x), narrow(inner)
        top, side = narrow(cuda.blockIdx.x) * TILE, narrow(cuda.blockIdx.y) * TILE
        first = narrow(cuda.blockIdx.z) * BLOCK if SPLIT else 0
        last = least(inner, first + BLOCK) if SPLIT else inner
        row, column, left, right = square(thread)
        lines, across = narrow(rows - 1 if TRANS_A else rows), narrow(columns)
        wide_a = find_a(a, order, lines, inner, top, thread, left_lines)
        wide_b = find_b(b, order, across, inner, side, thread, right_lines)
        load_a(a, order, scale, lines, top, first, last, thread, left_lines, wide_a, next_left)
        load_b(b, order, scale, across, side, first, last, thread, right_lines, wide_b, next_right)
        stage_a(shared, 0, thread, next_left)
        stage_b(shared, SIDE, thread, next_right)
        cuda.syncthreads()
        half, block, start = 0, first, first
        while less(block, last):
            for e in range(RESULTS):
                sums[e] = SCALAR(0)
            end = least(last, block + BLOCK)
            while less(start, end):
                following = narrow(start + DEPTH)
                more = less(following, last)
                if more:
                    load_a(a, order, scale, lines, top, following, last, thread, left_lines, wide_a, next_left)
                    load_b(b, order, scale, across, side, following, last, thread, right_lines, wide_b, next_right)
                multiply(shared, half + left, half + SIDE + right, last - start, sums)
                if more:
                    half = 2 * SIDE - half
                    stage_a(shared, half, thread, next_left)
                    stage_b(shared, half + SIDE, thread, next_right)
                    cuda.syncthreads()
                start = following
            for e in range(RESULTS):
                totals[e] = sums[e] if block == first else add(totals[e], sums[e])
            block += BLOCK
        cuda.syncthreads()
        for r in range(EACH):
            line = row + r // GROUP * APART + r % GROUP
            for c in range(0, EACH, GROUP):
                put(shared, line * TILE + column + c // GROUP * APART, totals, r * EACH + c, GROUP)
        cuda.syncthreads()
        finish(shared, thread, top, side, rows, columns, to)

    return product


@template
def finish_tile(shape, SCALAR, OPERANDS, prefetch, write):
    from ...gpu.target import cuda

    TILE, EACH, THREADS = shape.tile, shape.each, shape.threads
    RESULTS, STEP = EACH * EACH, THREADS // TILE
    TOGETHER = 128 // SCALAR.bitwidth  # results whose operands a thread reads before it writes the first of them
    ITEMS = TOGETHER * OPERANDS

    def finish_tile(shared, thread, top, side, rows, columns, to):
        """The epilogue of this thread's part of the tile."""
        operands = cuda.local.array(ITEMS, SCALAR)
        first, j = top + thread // TILE, side + thread % TILE
        for group in range(0, RESULTS, TOGETHER):
            for e in range(TOGETHER):
                i = first + (group + e) * STEP
                if i < rows and j < columns:  # ptxas makes predicated loads of it, and no branch
                    place_each(operands, e, TOGETHER, prefetch(i * columns + j, j, to))
            for e in range(TOGETHER):
                i = first + (group + e) * STEP
                if i < rows and j < columns:
                    total = load(shared, (group + e) * THREADS + thread)
                    write(total, pick_each(operands, e, TOGETHER, OPERANDS), i * columns + j, i == rows - 1, to)

    return finish_tile


@template
def keep_part(shape):
    from ...gpu.target import cuda

    TILE, THREADS = shape.tile, shape.threads
    RESULTS, STEP = shape.each**2, THREADS // TILE

    def keep_part(shared, thread, top, side, rows, columns, to):
        """`to`: where the sums of all blocks of terms go, one matrix after the other."""
        first, j = top + thread // TILE, side + thread % TILE
        start = narrow(cuda.blockIdx.z) * rows
        for e in range(RESULTS):
            i = first + e * STEP
            if i < rows and j < columns:
                store(to[0], (start + i) * columns + j, load(shared, e * THREADS + thread))

    return keep_part


@template
def thread_square(shape):
    ACROSS = shape.tile // shape.each

    def thread_square(thread):
        """First row and column of this thread's results; where its factors begin, in each operand's shared memory."""
        row, column = thread // ACROSS * GROUP, thread % ACROSS * GROUP
        return row, column, row, column

    return thread_square


@template
def multiply_terms(shape):
    DEPTH, PITCH, GROUPS = shape.depth, shape.pitch, shape.each // GROUP
    APART = shape.tile // GROUPS

    def multiply_terms(shared, left, right, terms, sums):
        """Add the next terms, DEPTH or fewer, to the sums."""
        if less(terms, DEPTH):
            term = 0
            while less(term, terms):
                at = term * PITCH
                multiply_add(shared, left + at, right + at, PITCH, 1, GROUPS, APART, sums)
                term += 1
        else:
            multiply_add(shared, left, right, PITCH, DEPTH, GROUPS, APART, sums)

    return multiply_terms


@intrinsic(prefer_literal=True)
def multiply_add(typingctx, stage, left, right, pitch, depth, groups, apart, sums):
    """Add `depth` terms to the sums: written out, since a loop would cost as much as it does."""

    def build(context, builder, signature, operands):
        memory, left_at, right_at, *_, array = operands
        scalar = context.get_value_type(stage.dtype)
        target = data_of(context, builder, sums, array)
        each = GROUP * groups.literal_value
        places = [builder.gep(target, [_I32(e)]) for e in range(each * each)]
        values = [builder.load(place) for place in places]
        wide = min(GROUP, WIDE * 8 // stage.dtype.bitwidth)  # elements of one access
        kind = ir.VectorType(scalar, wide)

        def factors(start: Any, term: int) -> list[Any]:
            found = []
            for first in range(0, each, wide):
                at = term * pitch.literal_value + first // GROUP * apart.literal_value + first % GROUP
                place = builder.gep(start, [_I32(at)])
                vector = builder.load(builder.bitcast(place, kind.as_pointer()), align=WIDE)
                found += [builder.extract_element(vector, _I32(e)) for e in range(wide)]
            return found

        starts = [builder.gep(memory, [at]) for at in (left_at, right_at)]
        for term in range(depth.literal_value):
            rows, columns = (factors(start, term) for start in starts)
            pairs = [(a, b) for a in rows for b in columns]
            values = [builder.fma(a, b, total) for (a, b), total in zip(pairs, values, strict=True)]
        for place, value in zip(places, values, strict=True):
            builder.store(value, place)
        return context.get_dummy_value()

    return types.void(stage, types.int64, types.int64, pitch, depth, groups, apart, sums), build
