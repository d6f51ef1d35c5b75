"""The matrix products of the network, as one CUDA kernel that is bound to what a product is for.

A block of threads makes a square tile of the result, each thread a small square of it in registers.  The operands go
through shared memory, some terms at a time: while those are multiplied, the next are on their way.  At last the
tile goes through shared memory too, so that threads next to each other finish elements next to each other; sums never
reach the memory of the device.

    HIDDEN    out = dropout(activation(A B + biases))
    OUTPUT    out = A B + biases
    DELTA     out = (A B^T) * derivative of dropout and activation at h
    GRADIENT  out = A^T B + l2 w, added to what is there if `more`
    UPDATE    the same gradient, given to the update rule at once

Each sum is the chain of `fma` of `tile.py`, in blocks of `tile.BLOCK` terms: the bits are those of the CPU.  Or, if
that is asked for, tensor cores make the blocks of factors rounded to TF32 (`tf32.py`).  The gradient of the biases,
which lie behind the weights, is one more row of `A^T B`, whose factors are 1.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...gpu.compiler import Kernel
from ...gpu.pointers import WIDE, data_of, load, put, store
from ...kernels.jit import merged
from ...kernels.pointers import pointer
from ...kernels.rounding import add, mul
from ...kernels.rule import Rule
from ..cpu.microkernel import BLOCK
from . import epilogues, tf32

HIDDEN, OUTPUT, DELTA, GRADIENT, UPDATE = "hidden", "output", "delta", "gradient", "update"
DEPTHS = {"float32": 16, "float64": 8}  # terms in shared memory at once; divisors of BLOCK
EACH = 4  # rows and columns that a thread makes
RESULTS = EACH * EACH
GROUP = 4  # results for which a thread reads what `finish` needs before the first of them is written
PAD = 4  # elements between the rows of a tile in shared memory, against conflicts of its banks

_I32 = ir.IntType(32)

# Bound by `kernel`.
cuda: Any = None
SCALAR: Any = None
TILE: Any = None
THREADS: Any = None
DEPTH: Any = None
PITCH: Any = None
SIDE: Any = None
STAGE: Any = None
LOADS: Any = None
TERMS_APART: Any = None
LINES_APART: Any = None
GATHER: Any = None
ACROSS: Any = None
TRANSPOSED: Any = None
BY_TERMS: Any = None
square: Any = None
multiply: Any = None
keep: Any = None
find_left: Any = None
take_left: Any = None
take_right: Any = None
leave_left: Any = None
leave_right: Any = None
bring: Any = None
finish_element: Any = None


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
    return (tile // EACH) ** 2


@functools.cache
def kernel(purpose: str, kind: Kind, tile: int) -> Kernel:
    """`kernel(a, order, scale, b, rows, columns, inner, to)`, over `epilogues.arguments(...)`."""

    scalar = types.float64 if kind.dtype == "float64" else types.float32
    stored = types.CPointer(scalar)
    source = stored if kind.source is None else types.CPointer(getattr(types, kind.source))
    across = purpose in (GRADIENT, UPDATE)
    pitch, depth = tile + PAD, DEPTHS[kind.dtype]
    shape = {
        "SCALAR": scalar,
        "TILE": tile,
        "THREADS": threads(tile),
        "DEPTH": depth,
        "PITCH": pitch,
        "SIDE": depth * pitch,
        "STAGE": max(4 * depth * pitch, tile * tile),
        "LOADS": tile * depth // threads(tile),
        "TERMS_APART": threads(tile) // tile,
        "LINES_APART": threads(tile) // depth,
        "GATHER": kind.source is not None,
        "ACROSS": across,
        "TRANSPOSED": purpose == DELTA,
    }
    keep = tf32.store_rounded if kind.tf32 else store
    bring, last, to = epilogues.bound(purpose, kind, scalar)
    signature = (
        *(source, types.CPointer(types.int64), scalar, stored, types.int64, types.int64, types.int64),
        to,
    )
    words = [purpose, str(tile), kind.dtype, kind.activation, "dropout" if kind.dropout else "plain"]
    words += ["tf32"] if kind.tf32 else []
    words += [f"of_{kind.source}"] if kind.source is not None else []
    words += [kind.rule.kernel_name(kind.options)] if kind.rule is not None else []
    return Kernel(
        product,
        f"mlp_{'_'.join(words)}",
        signature,
        source=None if kind.rule is None else kind.rule.update,
        threads=threads(tile),
        square=merged(tf32.square if kind.tf32 else _square, **shape),
        multiply=tf32.multiply if kind.tf32 else _multiply,
        find_left=merged(_find_left, **shape),
        take_left=merged(_take_left, **shape),
        take_right=merged(_take_right, **shape),
        leave_left=merged(_leave, keep=keep, BY_TERMS=across, **shape),
        leave_right=merged(_leave, keep=keep, BY_TERMS=purpose != DELTA, **shape),
        bring=bring,
        finish_element=last,
        **shape,
    )


def product(a, order, scale, b, rows, columns, inner, to):
    """A tile of the result, of shape (rows, columns).

    A is stored as (rows, inner), or for A^T as (inner, rows - 1); B as (inner, columns), or for B^T as (columns,
    inner).  With GATHER the samples of A are rows `order[0], order[1], ...` of the data, times `scale`.
    """
    stage = pointer(cuda.shared.array(STAGE, SCALAR, alignment=16))
    next_left, next_right = cuda.local.array(LOADS, SCALAR), cuda.local.array(LOADS, SCALAR)
    places = cuda.local.array(LOADS, np.int64)
    sums, totals = cuda.local.array(RESULTS, SCALAR), cuda.local.array(RESULTS, SCALAR)
    found, other = cuda.local.array(GROUP, SCALAR), cuda.local.array(GROUP, SCALAR)
    thread = np.int64(cuda.threadIdx.x)
    top, side = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    row, column, left, right = square(thread)
    half = 0
    find_left(order, rows, inner, top, thread, places)
    take_left(a, order, scale, rows, inner, top, 0, thread, places, next_left)
    take_right(b, columns, inner, side, 0, thread, next_right)
    leave_left(stage, 0, thread, next_left)
    leave_right(stage, SIDE, thread, next_right)
    cuda.syncthreads()
    for block in range(0, inner, BLOCK):
        for e in range(RESULTS):
            sums[e] = SCALAR(0)
        for start in range(block, min(inner, block + BLOCK), DEPTH):
            following = start + DEPTH
            if following < inner:
                take_left(a, order, scale, rows, inner, top, following, thread, places, next_left)
                take_right(b, columns, inner, side, following, thread, next_right)
            multiply(stage, half + left, half + SIDE + right, PITCH, DEPTH, sums)
            if following < inner:
                half = 2 * SIDE - half
                leave_left(stage, half, thread, next_left)
                leave_right(stage, half + SIDE, thread, next_right)
                cuda.syncthreads()
        for e in range(RESULTS):
            totals[e] = sums[e] if block == 0 else add(totals[e], sums[e])
    cuda.syncthreads()
    for r in range(EACH):
        put(stage, (row + r) * TILE + column, totals, r * EACH, EACH)
    cuda.syncthreads()
    first, j = top + thread // TILE, side + thread % TILE
    for group in range(0, RESULTS, GROUP):
        for e in range(GROUP):
            i = first + (group + e) * TERMS_APART
            inside = i < rows and j < columns
            found[e], other[e] = bring(i * columns + j if inside else 0, j if inside else 0, to)
        for e in range(GROUP):
            i = first + (group + e) * TERMS_APART
            if i < rows and j < columns:
                total = load(stage, (group + e) * THREADS + thread)
                finish_element(total, found[e], other[e], i * columns + j, i == rows - 1, to)


def _square(thread):
    """First row and column of the results of this thread; where its factors begin, each in its part of the stage."""
    row, column = thread // (TILE // EACH) * EACH, thread % (TILE // EACH) * EACH
    return row, column, row, column


@intrinsic(prefer_literal=True)
def _multiply(typingctx, stage, left, right, pitch, depth, sums):
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
# matrix is read at another place, and not used: no branch holds up the other reads.


def _find_left(order, rows, inner, top, thread, places):
    """Where the samples begin that this thread reads; -1 for what is none."""
    if GATHER and not ACROSS:
        for e in range(LOADS):
            i = top + thread // DEPTH + e * LINES_APART
            places[e] = load(order, i) * inner if i < rows else -1


def _take_left(a, order, scale, rows, inner, top, start, thread, places, taken):
    """This thread's part of A, of the terms from `start` on, into registers."""
    if ACROSS:
        i, k, width = top + thread % TILE, start + thread // TILE, rows - 1
        place, step = k * width + i, TERMS_APART * width
    else:
        i, k = top + thread // DEPTH, start + thread % DEPTH
        place, step = i * inner + k, LINES_APART * inner
    for e in range(LOADS):
        outside = SCALAR(-0.0)
        if ACROSS:
            readable = i < width and k < inner
            if GATHER:
                place = load(order, k if readable else 0) * width + i
            if i == width and k < inner:
                outside = SCALAR(1)
        elif GATHER:
            place = places[e] + k
            readable = places[e] >= 0 and k < inner
        else:
            readable = i < rows and k < inner
        value = SCALAR(load(a, place if readable else 0))
        if GATHER:
            value = mul(value, scale)
        taken[e] = value if readable else outside
        place += step
        if ACROSS:
            k += TERMS_APART
        else:
            i += LINES_APART


def _take_right(b, columns, inner, side, start, thread, taken):
    """The same of B."""
    if TRANSPOSED:
        j, k = side + thread // DEPTH, start + thread % DEPTH
        place, step = j * inner + k, LINES_APART * inner
    else:
        j, k = side + thread % TILE, start + thread // TILE
        place, step = k * columns + j, TERMS_APART * columns
    for e in range(LOADS):
        inside = j < columns and k < inner
        value = load(b, place if inside else 0)
        taken[e] = value if inside else SCALAR(0)
        place += step
        if TRANSPOSED:
            j += LINES_APART
        else:
            k += TERMS_APART


def _leave(stage, start, thread, taken):
    """What was taken, to shared memory: a row for each term."""
    for e in range(LOADS):
        if BY_TERMS:
            keep(stage, start + (thread // TILE + e * TERMS_APART) * PITCH + thread % TILE, taken[e])
        else:
            keep(stage, start + thread % DEPTH * PITCH + thread // DEPTH + e * LINES_APART, taken[e])
