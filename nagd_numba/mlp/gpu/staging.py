"""The operands of a tiled product on their way from memory to shared memory, by way of registers.

`lines` are the rows of A, or the columns of B.  An operand is stored by lines, so that neighbours in memory are terms
of one line; or by terms, with a row for each.  A thread takes neighbours, 16 bytes of the network's dtype: at once
where every row of the memory begins at a multiple of them, or else one by one.  In the place of what lies beyond the
last line or term something else is read, and what is made of it is not used: so no load waits for a branch.
"""

from __future__ import annotations

from typing import NamedTuple

from ...gpu.pointers import WIDE, address, fetch, least, less, load, narrow, pointer_at, put, store
from ...kernels.jit import inlined
from ...kernels.rounding import mul
from ...kernels.template import template

GROUP = 4  # rows or columns of a result that lie together in a thread
PAD = 4  # elements between the rows of a tile in shared memory, against conflicts of its banks


class Shape(NamedTuple):
    """The shape of a block's work, in elements."""

    tile: int  # rows and columns of the result
    each: int  # rows and columns that a thread makes, in groups of GROUP
    threads: int
    depth: int  # terms in shared memory at once
    pitch: int  # from one term to the next in shared memory
    side: int  # the terms of one operand
    stage: int  # all of shared memory
    loads: int  # elements of an operand that a thread loads,
    wide: int  # and how many of them are neighbours
    terms_apart: int  # between those neighbours, where they are loaded by terms,
    lines_apart: int  # or by lines

    @classmethod
    def of(cls, tile: int, each: int, depth: int, itemsize: int) -> Shape:
        block, pitch, wide = (tile // each) ** 2, tile + PAD, WIDE // itemsize
        side = depth * pitch
        return cls(
            *(tile, each, block, depth, pitch, side, max(4 * side, tile * tile)),
            *(tile * depth // block, wide, block * wide // tile, block * wide // depth),
        )


@template
def find_lines(shape, ITEM, BY_TERMS, ORDERED):
    TILE, DEPTH, LOADS, WIDE, LINES_APART = shape.tile, shape.depth, shape.loads, shape.wide, shape.lines_apart

    def find_lines(base, order, lines, inner, first, thread, places):
        """The addresses of the first terms of the lines that this thread loads, and whether 16 bytes go at once."""
        start, row = address(base), inner
        if BY_TERMS:
            line, row = narrow(first + thread * WIDE % TILE), lines
            places[0] = start + (line if less(line, lines) else 0) * ITEM
        else:
            for e in range(LOADS // WIDE):
                line = least(first + thread * WIDE // DEPTH + e * LINES_APART, lines - 1)
                places[e] = start + (load(order, line) if ORDERED else line) * (inner * ITEM)
        return (start & (WIDE * ITEM - 1)) + (row & (WIDE - 1)) == 0

    return find_lines


@template
def load_operand(shape, SCALAR, ITEM, STORED, BY_TERMS, ORDERED, ONES, convert):
    from ...gpu.target import cuda

    TILE, DEPTH, WIDE, TERMS_APART = shape.tile, shape.depth, shape.wide, shape.terms_apart
    TIMES = shape.loads // shape.wide

    @inlined
    def load_neighbours(e, base, order, scale, lines, line, term, stop, places, wide, loaded):
        raw = cuda.local.array(WIDE, STORED)
        if BY_TERMS:
            row = least(term + e * TERMS_APART, stop - 1)
            place = places[0] + (load(order, row) if ORDERED else row) * narrow(lines * ITEM)
            left = narrow(lines - 1 - (line if less(line, lines) else 0))
        else:
            within = term if less(term, stop) else 0
            place, left = places[e] + within * ITEM, narrow(stop - 1 - within)
        if wide:
            fetch(pointer_at(place, base), 0, raw, 0, WIDE)
        else:
            for q in range(WIDE):
                raw[q] = load(pointer_at(place + least(left, q) * ITEM, base), 0)
        for q in range(WIDE):
            value = SCALAR(raw[q])
            if ORDERED:
                value = mul(value, scale)
            if ONES and line + q >= lines:
                value = SCALAR(1)
            loaded[e * WIDE + q] = convert(value, term + (e * TERMS_APART if BY_TERMS else q), stop)

    def load_operand(base, order, scale, lines, first, start, stop, thread, places, wide, loaded):
        """This thread's part of the terms from `start` on, of which the last is before `stop`, into registers.

        With ORDERED these are data: terms by terms are the rows `order[start], ...`.  With ONES there is one line
        more, of ones.
        """
        line = narrow(first + thread * WIDE % TILE)
        term = narrow(start + (thread * WIDE // TILE if BY_TERMS else thread * WIDE % DEPTH))
        # Written out: a loop that is not unrolled would keep `loaded` in memory.
        load_neighbours(0, base, order, scale, lines, line, term, stop, places, wide, loaded)
        if TIMES > 1:
            load_neighbours(1, base, order, scale, lines, line, term, stop, places, wide, loaded)
        if TIMES > 2:
            load_neighbours(2, base, order, scale, lines, line, term, stop, places, wide, loaded)
            load_neighbours(3, base, order, scale, lines, line, term, stop, places, wide, loaded)

    return load_operand


@template
def stage_operand(shape, BY_TERMS):
    TILE, DEPTH, LOADS, PITCH, WIDE = shape.tile, shape.depth, shape.loads, shape.pitch, shape.wide
    TERMS_APART, LINES_APART = shape.terms_apart, shape.lines_apart

    def stage_operand(memory, start, thread, loaded):
        """This thread's part of an operand, from registers to shared memory: a row for each term."""
        for e in range(LOADS // WIDE):
            if BY_TERMS:
                at = (thread * WIDE // TILE + e * TERMS_APART) * PITCH + thread * WIDE % TILE
                put(memory, start + at, loaded, e * WIDE, WIDE)
            else:
                for q in range(WIDE):
                    at = (thread * WIDE % DEPTH + q) * PITCH + thread * WIDE // DEPTH + e * LINES_APART
                    store(memory, start + at, loaded[e * WIDE + q])

    return stage_operand


def as_it_is(value, term, stop):
    """What the exact products multiply: those of no term beyond the last."""
    return value
