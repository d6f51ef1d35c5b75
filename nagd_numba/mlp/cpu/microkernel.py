"""Matrix products of one tile in vector registers, and the copies around them: the ground under the passes on the CPU.

A tile is a block of up to `ROWS` × `columns` elements of a matrix, worked on in a *buffer*: a short vector that holds
several tiles, one after the other, each row by row with a pitch of `columns`.  Its operations are written in LLVM's
vectors, because no loop that LLVM could vectorise by itself keeps a tile in registers:

    sums       `sum_k a[i, k] b[k, j]` for a tile, into tile 0 of the buffer
    fetch      rows of a matrix into the buffer, or into a panel of B
    turn       columns of a matrix, which become the rows of a panel of B
    put        a tile of the buffer into a matrix
    fetch_a, turn_a    the same for a panel of A

A *panel* is what `sums` reads in order: of B `columns` elements for each k, of A `lane_rows` (`ROWS`, or some more to
fill vectors).  `sums` takes matrices that are not packed as well, since small ones are not worth it.

Matrices are given by `pointer(x)` of the flat vector that they lie in and an offset in elements: bare addresses, since
arrays would be counted at each call.  The vector must outlive their use.  Whatever else is to be done to the elements
is plain code over the buffer: loops over one array, which LLVM vectorises without checks.  At the edges of a matrix a
tile has fewer rows and columns: nothing outside is read or written, and what then lies in the rest of the buffer has
no meaning.

Every sum is a chain of `fma` from the first term to the last, in blocks of `..sums.BLOCK` terms whose sums are added in
order.  It depends neither on the shape of a tile nor on which thread computes it, so equal inputs give equal bits on
every processor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from ...kernels.jit import python_callable
from ...kernels.linking import Interface, Linked, linked
from ...kernels.pointers import shifted
from ...kernels.rounding import add, fma
from ...kernels.template import template
from ..sums import BLOCK
from .vectors import BYTES, LONG, Vectors

# As many sums as fit the registers, of which there are 32 with AVX-512, else 16.
ROWS = 14 if BYTES == 64 else 6
VECTORS = 2  # in a row of a tile
TOGETHER = 4  # rows of A for one pointer
_long = types.int64


class Tile(NamedTuple):
    """The operations on tiles of one dtype."""

    lanes: int  # of a vector
    columns: int
    lane_rows: int  # of a panel of A
    sums: Linked
    fetch: Callable
    put: Callable
    turn: Callable
    fetch_a: Callable
    turn_a: Callable


@functools.cache
def tile(dtype: str) -> Tile:
    """The operations for this dtype."""
    lanes = BYTES // np.dtype(dtype).itemsize
    columns, lane_rows, interface = lanes * VECTORS, -(-ROWS // lanes) * lanes, sums_interface(dtype)
    return Tile(
        lanes,
        columns,
        lane_rows,
        linked(tile_sums.bind(wide=_block(columns, columns), narrow=_block(lanes, columns), LANES=lanes), interface),
        _fetch(columns),
        _put(columns),
        _turn(columns),
        _fetch(lane_rows),
        _turn(lane_rows),
    )


@functools.cache
def sums_interface(dtype: str) -> Interface:
    """a, its pitch from row to row and from k to k; b, its pitch from k to k; terms, height, width, buffer, more.

    The sums are added to what is in the buffer where there are `more`.  Rows of b are read to the end of the vector in
    which column `width` lies.  With each term the line of the cache at `ahead` is fetched, which goes `step` elements
    further each time; it need not be memory of ours.
    """
    x = types.CPointer(from_dtype(np.dtype(dtype)))
    return Interface(types.void(x, _long, _long, x, *[_long] * 4, x, types.boolean, x, _long))


@template
def tile_sums(wide, narrow, LANES):
    def tile_sums(a, a_row, a_inner, b, b_pitch, inner, height, width, buffer, more, ahead, step):
        for k in range(0, inner, BLOCK):
            terms, again = min(BLOCK, inner - k), more or k > 0
            left, right, next_ahead = shifted(a, k * a_inner), shifted(b, k * b_pitch), shifted(ahead, k * step)
            if width > LANES:
                wide(left, a_row, a_inner, right, b_pitch, terms, height, buffer, again, next_ahead, step)
            else:
                narrow(left, a_row, a_inner, right, b_pitch, terms, height, buffer, again, next_ahead, step)

    return tile_sums


def _block(count: int, columns: int) -> Any:
    """One chain of fma for each element of a tile, in the first `count` of its `columns`."""

    def block(a, a_row, a_inner, b, b_pitch, terms, height, buffer, again, ahead, step):
        for r in range(height):
            for q in range(count):
                total = type(buffer[0])(0)
                for k in range(terms):
                    total = fma(a[r * a_row + k * a_inner], b[k * b_pitch + q], total)
                at = r * columns + q
                buffer[at] = add(buffer[at], total) if again else total

    def typing(typingctx, a, a_row, a_inner, b, b_pitch, terms, height, buffer, again, ahead, step):
        signature = types.void(a, _long, _long, b, _long, _long, _long, buffer, types.boolean, ahead, _long)
        return signature, lambda *given: _build_block(count, columns, *given)

    return python_callable(intrinsic(typing), block)


def _build_block(count, columns, context, builder, signature, operands):
    a, a_row, a_inner, b, b_pitch, terms, height, buffer, again, ahead, step = operands
    vectors = Vectors(builder, context.get_value_type(signature.args[0].dtype))
    places = range(0, count, vectors.lanes)  # of the vectors in a row
    one, zero = (ir.Constant(LONG, x) for x in (1, 0))
    pitches = [builder.mul(a_row, ir.Constant(LONG, r)) for r in range(ROWS)]
    corners = [vectors.at(a, pitch) for pitch in pitches[::TOGETHER]]
    end = builder.append_basic_block("end")
    switch = builder.switch(height, end)
    for rows in range(1, ROWS + 1):
        start, body, done, first, later = (
            builder.append_basic_block(x) for x in ("start", "term", "summed", "first", "later")
        )
        switch.add_case(ir.Constant(LONG, rows), start)
        builder.position_at_end(start)
        builder.branch(body)
        builder.position_at_end(body)
        k, line, next_line = builder.phi(LONG), builder.phi(b.type), builder.phi(ahead.type)
        lefts = [builder.phi(a.type) for _ in range(0, rows, TOGETHER)]
        sums = [builder.phi(vectors.kind) for _ in range(rows * len(places))]
        # Four rows have one pointer, and their pitches.  LLVM would make it a register, or one addition after another,
        # for each row, if it saw how they hang together.
        here = [_unknown(builder, left) for left in lefts]
        factors = [vectors.load(vectors.at(line, q)) for q in places]
        _fetch_line(builder, next_line)
        results = []
        for r in range(rows):
            place = vectors.at(here[r // TOGETHER], pitches[r % TOGETHER]) if r % TOGETHER else here[r // TOGETHER]
            left = vectors.splat(builder.load(place))
            results += [vectors.fma(left, factor, sums[len(results) + v]) for v, factor in enumerate(factors)]
        following = builder.add(k, one)
        for phi, initial, value in (
            (k, zero, following),
            (line, b, vectors.at(line, b_pitch)),
            (next_line, ahead, vectors.at(next_line, step)),
            *((phi, corner, vectors.at(x, a_inner)) for phi, corner, x in zip(lefts, corners, here, strict=False)),
            *((phi, vectors.zero, value) for phi, value in zip(sums, results, strict=True)),
        ):
            phi.add_incoming(initial, start)
            phi.add_incoming(value, body)
        builder.cbranch(builder.icmp_signed("<", following, terms), body, done)
        builder.position_at_end(done)
        targets = [vectors.at(buffer, r * columns + q) for r in range(rows) for q in places]
        builder.cbranch(again, later, first)
        for block, more in ((first, False), (later, True)):
            builder.position_at_end(block)
            for result, target in zip(results, targets, strict=True):
                vectors.store(builder.fadd(vectors.load(target), result) if more else result, target)
            builder.branch(end)
    builder.position_at_end(end)
    return context.get_dummy_value()


def _prefetch(typingctx, x, offset):
    def build(context, builder, signature, operands):
        _fetch_line(builder, builder.gep(operands[0], [operands[1]]))
        return context.get_dummy_value()

    return types.void(x, _long), build


def _prefetch_python(x, offset):
    pass


# prefetch(pointer, offset): bring this element's line of the cache; it need not be memory of ours.
prefetch = python_callable(intrinsic(_prefetch), _prefetch_python)


def _fetch_line(builder: Any, pointer: Any) -> None:
    pointer = builder.bitcast(pointer, ir.PointerType(ir.IntType(8)))
    flags = [ir.Constant(ir.IntType(32), flag) for flag in (0, 2, 1)]  # for reading, into the second level, data
    kind = ir.FunctionType(ir.VoidType(), [pointer.type] + [flag.type for flag in flags])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0"), [pointer, *flags])


def _unknown(builder: Any, value: Any) -> Any:
    """The same value, of which LLVM knows nothing."""
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], False)


def _for_rows(builder: Any, height: Any, work: Callable) -> None:
    """`work(r)` for r from 0 to below `height`."""
    before = builder.block
    head, body, after = (builder.append_basic_block(x) for x in ("rows", "row", "rows_done"))
    builder.branch(head)
    builder.position_at_end(head)
    r = builder.phi(LONG)
    builder.cbranch(builder.icmp_signed("<", r, height), body, after)
    builder.position_at_end(body)
    work(r)
    r.add_incoming(ir.Constant(LONG, 0), before)
    r.add_incoming(builder.add(r, ir.Constant(LONG, 1)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)


def _rows_moved(columns, context, builder, kind, width, height, move):
    """`move(r, v, mask)` for each vector of each row that has some of its columns; without masks where it has all.

    Masked stores of AVX2 are slow: at most one in a row has a mask.
    """
    vectors = Vectors(builder, context.get_value_type(kind.dtype))
    count, moved = columns // vectors.lanes, builder.append_basic_block("moved")
    for whole in range(count, -1, -1):  # vectors that have all columns
        masks = [None] * whole
        if whole < count:
            masks.append(vectors.mask(width, whole * vectors.lanes))

        def row(r: Any, masks: list[Any] = masks) -> None:
            for v, mask in enumerate(masks):
                move(vectors, r, v * vectors.lanes, mask)

        if whole > 0:
            with builder.if_then(builder.icmp_signed(">=", width, ir.Constant(LONG, whole * vectors.lanes))):
                _for_rows(builder, height, row)
                builder.branch(moved)
        else:
            _for_rows(builder, height, row)
            builder.branch(moved)
    builder.position_at_end(moved)
    return context.get_dummy_value()


def _fetch(columns: int) -> Any:
    """Rows of a matrix, of up to so many columns, to rows with that pitch."""

    def fetch(x, start, pitch, height, width, out):
        for r in range(height):
            for q in range(width):
                out[r * columns + q] = x[start + r * pitch + q]

    def typing(typingctx, x, start, pitch, height, width, out):
        def build(context, builder, signature, operands):
            x, start, pitch, height, width, out = operands
            base = builder.gep(x, [start])

            def move(vectors, r, q, mask):
                value = vectors.load(vectors.at(vectors.at(base, builder.mul(r, pitch)), q), mask)
                place = builder.mul(r, ir.Constant(LONG, columns))
                vectors.store(value, vectors.at(vectors.at(out, place), q))

            return _rows_moved(columns, context, builder, signature.args[0], width, height, move)

        return types.void(x, *[_long] * 4, out), build

    return python_callable(intrinsic(typing), fetch)


def _put(columns: int) -> Any:
    """Rows of a tile, with a pitch of `columns`, into a matrix."""

    def put(buffer, x, start, pitch, height, width):
        for r in range(height):
            for q in range(width):
                x[start + r * pitch + q] = buffer[r * columns + q]

    def typing(typingctx, buffer, x, start, pitch, height, width):
        def build(context, builder, signature, operands):
            buffer, x, start, pitch, height, width = operands
            base = builder.gep(x, [start])

            def move(vectors, r, q, mask):
                place = builder.mul(r, ir.Constant(LONG, columns))
                value = vectors.load(vectors.at(vectors.at(buffer, place), q))
                vectors.store(value, vectors.at(vectors.at(base, builder.mul(r, pitch)), q), mask)

            return _rows_moved(columns, context, builder, signature.args[0], width, height, move)

        return types.void(buffer, x, *[_long] * 4), build

    return python_callable(intrinsic(typing), put)


def _turn(columns: int) -> Any:
    """Row r of a matrix becomes column r of a panel with rows of `columns`; `height` rows of `width` elements.

    The panel has room for `width` rounded up to whole vectors.
    """

    def turn(x, start, pitch, height, width, panel):
        for r in range(height):
            for q in range(width):
                panel[q * columns + r] = x[start + r * pitch + q]

    def typing(typingctx, x, start, pitch, height, width, panel):
        return types.void(x, *[_long] * 4, panel), lambda *given: _build_turn(columns, *given)

    return python_callable(intrinsic(typing), turn)


def _build_turn(columns, context, builder, signature, operands):
    """Square blocks of vectors; rows below the last one are taken from that."""
    x, start, pitch, height, width, panel = operands
    vectors = Vectors(builder, context.get_value_type(signature.args[0].dtype))
    lanes, base = vectors.lanes, builder.gep(x, [start])
    long = functools.partial(ir.Constant, LONG)
    last = builder.sub(height, long(1))

    def stripe(r: Any) -> None:
        """Rows `lanes r` and on."""
        first = builder.mul(r, long(lanes))
        rows = []
        for k in range(lanes):
            row = builder.add(first, long(k))
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            rows.append(builder.gep(base, [builder.mul(row, pitch)]))

        def square(c: Any) -> None:
            q = builder.mul(c, long(lanes))
            mask = vectors.mask(builder.sub(width, q))
            turned = vectors.transposed([vectors.load(builder.gep(row, [q]), mask) for row in rows])
            for k, value in enumerate(turned):
                place = builder.add(builder.mul(builder.add(q, long(k)), long(columns)), first)
                vectors.store(value, builder.gep(panel, [place]))

        _for_rows(builder, _whole(builder, width, lanes), square)

    _for_rows(builder, _whole(builder, height, lanes), stripe)
    return context.get_dummy_value()


def _whole(builder: Any, count: Any, lanes: int) -> Any:
    """How many vectors hold so many elements."""
    return builder.sdiv(builder.add(count, ir.Constant(LONG, lanes - 1)), ir.Constant(LONG, lanes))
