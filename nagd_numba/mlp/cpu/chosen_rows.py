"""`sum_e values[e] b[places[e], q]` for a row of a tile, in vector registers: what `microkernel` is to sparse rows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...kernels.jit import python_callable
from ...kernels.rounding import add, fma
from .microkernel import tile
from .vectors import LONG, Vectors

_long = types.int64


@functools.cache
def chosen_rows(dtype: str) -> Callable:
    """`chosen_rows(values, places, b, pitch, terms, width, out, more)`: one chain of fma for each column.

    Row k of `b` begins at `k pitch`, and has `width` columns that may be read; `out` has room for all of a tile.  The
    sums are added to what is there where there are `more`.
    """
    columns = tile(dtype).columns

    def python(values, places, b, pitch, terms, width, out, more):
        for q in range(width):
            total = np.dtype(dtype).type(0)
            for e in range(terms):
                total = fma(values[e], b[int(places[e]) * pitch + q], total)
            out[q] = add(out[q], total) if more else total

    def typing(typingctx, values, places, b, pitch, terms, width, out, more):
        signature = types.void(values, places, b, _long, _long, _long, out, types.boolean)
        return signature, lambda *given: _build(columns, *given)

    return python_callable(intrinsic(typing), python)


def _build(columns, context, builder, signature, operands):
    values, places, b, pitch, terms, width, out, more = operands
    vectors = Vectors(builder, context.get_value_type(signature.args[0].dtype))
    starts = range(0, columns, vectors.lanes)
    masks = [vectors.mask(width, q) for q in starts]
    whole = builder.icmp_signed("==", width, ir.Constant(LONG, columns))
    with builder.if_else(whole) as (then, otherwise):
        for form, chosen in ((then, [None] * len(masks)), (otherwise, masks)):
            with form:
                sums = _chains(builder, vectors, values, places, b, pitch, terms, starts, chosen)
                for q, total in zip(starts, sums, strict=True):
                    place = vectors.at(out, q)
                    added = builder.fadd(vectors.load(place), total)
                    vectors.store(builder.select(more, added, total), place)
    return context.get_dummy_value()


def _chains(builder: Any, vectors: Vectors, values, places, b, pitch, terms, starts, masks: list[Any]) -> list[Any]:
    """The loop over the terms."""
    before = builder.block
    head, body, after = (builder.append_basic_block(x) for x in ("terms", "term", "summed"))
    builder.branch(head)
    builder.position_at_end(head)
    e = builder.phi(LONG)
    sums = [builder.phi(vectors.kind) for _ in masks]
    builder.cbranch(builder.icmp_signed("<", e, terms), body, after)
    builder.position_at_end(body)
    place = builder.load(builder.gep(places, [e]))
    place = place if place.type == LONG else builder.sext(place, LONG)
    row, factor = vectors.at(b, builder.mul(place, pitch)), vectors.splat(builder.load(builder.gep(values, [e])))
    results = [
        vectors.fma(factor, vectors.load(vectors.at(row, q), mask), total)
        for q, mask, total in zip(starts, masks, sums, strict=True)
    ]
    for phi, initial, value in (
        (e, ir.Constant(LONG, 0), builder.add(e, ir.Constant(LONG, 1))),
        *((phi, vectors.zero, value) for phi, value in zip(sums, results, strict=True)),
    ):
        phi.add_incoming(initial, before)
        phi.add_incoming(value, body)
    builder.branch(head)
    builder.position_at_end(after)
    return sums
