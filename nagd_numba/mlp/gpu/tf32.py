"""TF32: products multiplied on tensor cores (`precision="tf32"`) in place of chains of `fma`.

Factors are rounded to TF32 (10 explicit bits of mantissa, to nearest, ties away from 0) on their way to shared memory,
once; from there each warp makes 32 x 16 results, 16 x 8 at once, by `mma.sync.m16n8k8`.  A lane of it holds

    a: rows g, g + 8 of terms t, t + 4;    b: terms t, t + 4 of column g;    sums: rows g, g + 8 of columns 2t, 2t + 1

with g = lane // 4 and t = lane % 4.  Which term, row and column of the tile these numbers mean is free, as long as both
factors agree on the terms.  Here terms t, t + 4 are 2t, 2t + 1 of every 8; rows g, g + 8 of the two products of 16 rows
are 4g, ..., 4g + 3; column g of the two of 8 columns is 2g, 2g + 1.  So

- the factors of a lane lie next to each other in the tile of the exact product: one access of 16 bytes (of 8, for the
  columns) for each term; and the lanes that are served together meet in no bank, since the rows of shared memory are
  4 banks apart (modulo 32): lanes of term 2t begin at bank 8t;
- the results of a lane are a square of 4 x 4, as those of a thread of the exact product: all the rest is the same.

Error.  With u = 2^-11, e = 2^-23 and n terms,

    |C_tf32 - C| <= ((1 + u)^2 (1 + e)^d - 1) sum_k |a_k| |b_k|,    d = min(n, 128) + ceil(n / 128),

about 2^-10 of the sum, where nothing overflows and neither factors nor products lie below the normal numbers.  Rounding
a factor multiplies it by 1 + r, |r| <= u, and products of such factors are exact; each then passes at most d additions:
those of its block of 128 terms, then those of the blocks.  The hardware adds in at least float32 (PTX ISA, mma), in an
order and with roundings that are not specified: e, twice the unit roundoff, allows for truncation.

The order of the sum is a function of the shape alone, so equal inputs give equal bits on one device; another generation
of devices may give others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ...gpu import driver
from ...gpu.pointers import data_of, less, quotient
from ...gpu.target import intrinsic
from ...kernels.template import template

OLDEST = (8, 0)  # the first compute capability that has it
ROWS, COLUMNS, TERMS = 32, 16, 8  # of a warp's results; terms of one instruction

_I32, _FLOAT = ir.IntType(32), ir.FloatType()
_ROUND = "cvt.rna.tf32.f32 $0, $1;"
_MULTIPLY = (
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, "
    "{$10, $11, $12, $13};"
)


def check(precision: str, device: int) -> None:
    """Raise unless a device has the precision."""
    if precision != "tf32":
        return
    major, minor = driver.current().capability(device)
    if (major, minor) < OLDEST:
        raise ValueError(
            f"precision is 'tf32', and device {device} has compute capability {major}.{minor}; "
            f"{OLDEST[0]}.{OLDEST[1]} or later is needed: take precision='float32'"
        )


@template
def square(shape):
    TILE, PITCH = shape.tile, shape.pitch

    def square(thread):
        """First row and column of this thread's results; where its factors begin, in each operand's shared memory."""
        warp, lane = quotient(thread, 32), thread & 31  # seen to be from 0 on: no division remains
        row = warp // (TILE // COLUMNS) * ROWS + lane // 4 * 4
        column = warp % (TILE // COLUMNS) * COLUMNS
        term = lane % 4 * 2 * PITCH
        return row, column + lane % 4 * 4, term + row, term + column + lane // 4 * 2

    return square


@intrinsic
def rounded(typingctx, value):
    """A number rounded to TF32."""

    def build(context, builder, signature, operands):
        made = builder.call(ir.InlineAsm(ir.FunctionType(_I32, [_FLOAT]), _ROUND, "=r,f"), operands)
        return builder.bitcast(made, _FLOAT)

    return types.float32(types.float32), build


# Terms from `stop` on are -0 and 0: their products change no sum, not even one of -0.


def rounded_a(value, term, stop):
    return rounded(value if less(term, stop) else np.float32(-0.0))


def rounded_b(value, term, stop):
    return rounded(value if less(term, stop) else np.float32(0.0))


@template
def multiply(shape):
    PITCH, DEPTH = shape.pitch, shape.depth

    def multiply(shared, left, right, terms, sums):
        """Add the next DEPTH terms to the sums; those from `terms` on are padding."""
        multiply_add(shared, left, right, PITCH, DEPTH, sums)

    return multiply


@intrinsic(prefer_literal=True)
def multiply_add(typingctx, stage, left, right, pitch, depth, sums):
    """Add `depth` terms to the sums of all lanes of the warp: what `gemm.multiply_add` does for a thread."""

    def build(context, builder, signature, operands):
        memory, left_at, right_at, _, _, array = operands
        target = data_of(context, builder, sums, array)
        places = [builder.gep(target, [_I32(e)]) for e in range(16)]
        values = [builder.load(place) for place in places]

        def factors(at: Any, term: int, count: int) -> list[Any]:
            place = builder.gep(builder.gep(memory, [at]), [_I32(term * pitch.literal_value)])
            vector = ir.VectorType(_I32, count).as_pointer()
            loaded = builder.load(builder.bitcast(place, vector), align=4 * count)
            return [builder.extract_element(loaded, _I32(e)) for e in range(count)]

        for first in range(0, depth.literal_value, TERMS):
            a, b = (
                [factors(at, first + term, count) for term in (0, 1)] for at, count in ((left_at, 4), (right_at, 2))
            )
            for i, j in ((i, j) for i in (0, 1) for j in (0, 1)):
                which = [4 * (2 * i + row) + j + 2 * column for row in (0, 1) for column in (0, 1)]
                given = [a[0][2 * i], a[0][2 * i + 1], a[1][2 * i], a[1][2 * i + 1], b[0][j], b[1][j]]
                made = _mma(builder, given, [values[e] for e in which])
                for e, value in zip(which, made, strict=True):
                    values[e] = value
        for place, value in zip(places, values, strict=True):
            builder.store(value, place)
        return context.get_dummy_value()

    return types.void(stage, types.int64, types.int64, pitch, depth, sums), build


def _mma(builder: Any, factors: list[Any], sums: list[Any]) -> list[Any]:
    """The sums with the products of 16 x 8 and 8 x 8 factors added."""
    kind = ir.FunctionType(ir.LiteralStructType([_FLOAT] * 4), [_I32] * 6 + [_FLOAT] * 4)
    constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
    made = builder.call(
        ir.InlineAsm(kind, _MULTIPLY, constraints, side_effect=True), factors + sums, attrs=["convergent"]
    )
    return [builder.extract_value(made, e) for e in range(4)]
