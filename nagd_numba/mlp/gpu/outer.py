"""Sums of outer products in local arrays, written out: where a loop stays, a compiler keeps the arrays in memory."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from ...gpu.pointers import data_of
from ...gpu.target import intrinsic

_I64 = ir.IntType(64)


@intrinsic(prefer_literal=True)
def add_outer(typingctx, sums, left, right, rows, columns, terms, strides):
    """`sums[r columns + c]` becomes fma(left, right, itself), for each of the terms in turn; all numbers are literals.

    Term q of row r is `left[r strides[0] + q strides[1]]`, and of column c `right[c strides[2] + q strides[3]]`.
    """
    of_row, row_term, of_column, column_term = (x.literal_value for x in strides)

    def build(context, builder, signature, operands):
        kinds = sums, left, right
        to, a, b = (data_of(context, builder, kind, x) for kind, x in zip(kinds, operands, strict=False))
        total = _loaded(builder, to, range(rows.literal_value * columns.literal_value))
        for q in range(terms.literal_value):
            ones = _loaded(builder, a, (r * of_row + q * row_term for r in range(rows.literal_value)))
            others = _loaded(builder, b, (c * of_column + q * column_term for c in range(columns.literal_value)))
            factors = [(x, y) for x in ones for y in others]
            total = [builder.fma(x, y, before) for (x, y), before in zip(factors, total, strict=True)]
        for place, value in enumerate(total):
            builder.store(value, builder.gep(to, [_I64(place)]))
        return context.get_dummy_value()

    return types.void(sums, left, right, rows, columns, terms, strides), build


@intrinsic(prefer_literal=True)
def forget(typingctx, values, count):
    """The local array's elements are not needed any more: a loop need not keep them."""

    def build(context, builder, signature, operands):
        start = data_of(context, builder, values, operands[0])
        for place in range(count.literal_value):
            at = builder.gep(start, [_I64(place)])
            builder.store(ir.Constant(at.type.pointee, ir.Undefined), at)
        return context.get_dummy_value()

    return types.void(values, count), build


def _loaded(builder: Any, start: Any, places: Any) -> list[Any]:
    return [builder.load(builder.gep(start, [_I64(place)])) for place in places]
