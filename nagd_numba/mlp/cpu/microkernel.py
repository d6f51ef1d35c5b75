"""Small matrix products in vector registers: the ground under the passes on the CPU.

A tile is a block of `ROWS` × `COLUMNS` elements of a matrix, worked on in a *buffer*: a short vector that holds several
tiles, one after the other, each row by row.  Four operations move data, written in LLVM's vectors because no loop
that LLVM could vectorise by itself keeps a tile in registers:

    multiply   sums `sum_k a[i, k] b[k, j]` for a tile, into tile 0 of the buffer
    fetch      a tile of a matrix into the buffer; with a row pitch of 0 the same row for each (biases)
    put        a tile of the buffer into a matrix

    gather     the same from the transposed matrix

Matrices are given by `pointer(x)` of the flat vector that they lie in and an offset in elements: bare addresses, since
arrays would be counted at each call.  The vector must outlive their use.

Whatever else is to be done to the elements is plain code over the buffer: loops of a known length over one array,
which LLVM vectorises without checks.  At the edges of a matrix a tile has fewer rows and columns: nothing outside is
read or written, and what then lies in the rest of the buffer has no meaning.

Every sum is a chain of `fma` from the first term to the last, in blocks of `..sums.BLOCK` terms whose sums are added in
order.  It depends neither on the shape of a tile nor on which thread computes it, so equal inputs give equal bits on
every processor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from ...kernels.jit import python_callable
from ...kernels.rounding import add, fma

_settings: Any = config
_LONG = ir.IntType(64)
_INDEX = ir.IntType(32)


def _vector_bytes() -> int:
    """The width of a vector register of the processor that Numba compiles for."""
    if _settings.CPU_FEATURES is not None:
        features = set(_settings.CPU_FEATURES.split(","))
        wide, middle = "+avx512f" in features, "+avx" in features
    elif _settings.CPU_NAME not in (None, "", "host"):
        wide = middle = False  # some other processor, of which little is known
    else:
        host = binding.get_host_cpu_features()
        wide, middle = host.get("avx512f", False), host.get("avx", False)
    return 64 if wide else 32 if middle else 16


_BYTES = _vector_bytes()
ROWS = 8 if _BYTES == 64 else 4  # two vectors a row: as many sums as fit the registers (32 with AVX-512, else 16)


class Tile(NamedTuple):
    """The operations on tiles of one dtype."""

    columns: int
    multiply: Callable
    multiply_across: Callable
    fetch: Callable
    gather: Callable
    put: Callable


VECTORS = 2  # in a row of a tile


@functools.cache
def tile(dtype: str) -> Tile:
    """The operations for this dtype."""
    lanes = _BYTES // np.dtype(dtype).itemsize
    columns = lanes * VECTORS

    def emitter(builder: Any, kind: ir.Type) -> _Vectors:
        return _Vectors(builder, kind, lanes, VECTORS)

    def sums(a, a_start, a_row, a_inner, b, b_start, b_pitch, inner, height, width, buffer, first):
        for r in range(height):
            for q in range(width):
                total = type(buffer[0])(0)
                for k in range(inner):
                    total = fma(a[a_start + r * a_row + k * a_inner], b[b_start + k * b_pitch + q], total)
                at = r * columns + q
                buffer[at] = total if first else add(buffer[at], total)

    def multiply(a, a_start, a_pitch, *others):
        sums(a, a_start, a_pitch, 1, *others)

    def multiply_across(a, a_start, a_pitch, *others):
        sums(a, a_start, 1, a_pitch, *others)

    def fetch(x, start, pitch, height, width, buffer, place):
        for r in range(height):
            for q in range(width):
                buffer[place * ROWS * columns + r * columns + q] = x[start + r * pitch + q]

    def gather(x, start, pitch, height, width, buffer, place):
        for r in range(height):
            for q in range(width):
                buffer[place * ROWS * columns + r * columns + q] = x[start + r + q * pitch]

    def put(buffer, place, x, start, pitch, height, width):
        for r in range(height):
            for q in range(width):
                x[start + r * pitch + q] = buffer[place * ROWS * columns + r * columns + q]

    def multiply_typing(typingctx, a, a_start, a_pitch, b, b_start, b_pitch, inner, height, width, buffer, first):
        return multiply_signature(a, b, buffer), lambda *given: _build_multiply(emitter, columns, False, *given)

    def across_typing(typingctx, a, a_start, a_pitch, b, b_start, b_pitch, inner, height, width, buffer, first):
        return multiply_signature(a, b, buffer), lambda *given: _build_multiply(emitter, columns, True, *given)

    def multiply_signature(a, b, buffer):
        long = types.int64
        return types.void(a, long, long, b, long, long, long, long, long, buffer, types.boolean)

    def fetch_typing(typingctx, x, start, pitch, height, width, buffer, place):
        long = types.int64
        signature = types.void(x, long, long, long, long, buffer, long)
        return signature, lambda *given: _build_fetch(emitter, columns, *given)

    def gather_typing(typingctx, x, start, pitch, height, width, buffer, place):
        long = types.int64
        signature = types.void(x, long, long, long, long, buffer, long)
        return signature, lambda *given: _build_gather(emitter, columns, *given)

    def put_typing(typingctx, buffer, place, x, start, pitch, height, width):
        long = types.int64
        signature = types.void(buffer, long, x, long, long, long, long)
        return signature, lambda *given: _build_put(emitter, columns, *given)

    made = (
        python_callable(intrinsic(typing), python)
        for typing, python in (
            (multiply_typing, multiply),
            (across_typing, multiply_across),
            (fetch_typing, fetch),
            (gather_typing, gather),
            (put_typing, put),
        )
    )
    return Tile(columns, *made)


class _Vectors:
    """The rows of a tile as vectors, in the code that `builder` writes."""

    def __init__(self, builder: Any, kind: ir.Type, lanes: int, vectors: int) -> None:
        self.builder, self.lanes, self.vectors = builder, lanes, vectors
        self.kind = ir.VectorType(kind, lanes)
        self.name = f"v{lanes}f{32 if kind == ir.FloatType() else 64}"
        self.bits = ir.VectorType(ir.IntType(1), lanes)
        self.zero = ir.Constant(self.kind, [0.0] * lanes)
        self.align = ir.Constant(_INDEX, 4 if kind == ir.FloatType() else 8)

    def splat(self, value: Any) -> Any:
        """`value` in every lane."""
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.Constant(_INDEX, 0))
        return self.builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_INDEX, self.lanes), None))

    def masks(self, width: Any) -> list[Any]:
        """For each vector of a row, which lanes lie in the first `width` columns."""
        return [
            self.builder.icmp_signed(
                "<",
                ir.Constant(ir.VectorType(_LONG, self.lanes), list(range(v * self.lanes, (v + 1) * self.lanes))),
                self.splat(width),
            )
            for v in range(self.vectors)
        ]

    def pointer(self, base: Any, *offsets: Any) -> Any:
        """`base` plus the offsets, in elements."""
        for offset in offsets:
            base = self.builder.gep(base, [offset if isinstance(offset, ir.Value) else ir.Constant(_LONG, offset)])
        return base

    def _vector_pointer(self, pointer: Any) -> Any:
        return self.builder.bitcast(pointer, self.kind.as_pointer())

    def load(self, pointer: Any, mask: Any = None) -> Any:
        pointer = self._vector_pointer(pointer)
        if mask is None:
            return self._aligned(self.builder.load(pointer))
        return self._call("llvm.masked.load", [pointer, self.align, mask, self.zero], self.kind, ".p0")

    def store(self, value: Any, pointer: Any, mask: Any = None) -> None:
        pointer = self._vector_pointer(pointer)
        if mask is None:
            self._aligned(self.builder.store(value, pointer))
        else:
            self._call("llvm.masked.store", [value, pointer, self.align, mask], ir.VoidType(), ".p0")

    def gather(self, base: Any, pitch: Any, first: int, mask: Any) -> Any:
        """The elements `base[(first + lane) pitch]`."""
        lanes = ir.Constant(ir.VectorType(_LONG, self.lanes), list(range(first, first + self.lanes)))
        step = self.builder.mul(pitch, ir.Constant(_LONG, self.align.constant))  # elements are aligned to their size
        places = self.builder.mul(lanes, self.splat(step))
        places = self.builder.add(places, self.splat(self.builder.ptrtoint(base, _LONG)))
        pointers = self.builder.inttoptr(places, ir.VectorType(base.type, self.lanes))
        return self._call("llvm.masked.gather", [pointers, self.align, mask, self.zero], self.kind, f".v{self.lanes}p0")

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self._call("llvm.fma", [a, b, c], self.kind)

    def _call(self, name: str, operands: list[Any], result: ir.Type, suffix: str = "") -> Any:
        signature = ir.FunctionType(result, [operand.type for operand in operands])
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"{name}.{self.name}{suffix}")
        return self.builder.call(function, operands)

    def _aligned(self, instruction: Any) -> Any:
        instruction.align = self.align.constant
        return instruction


def _rows(builder: Any, base: Any, pitch: Any, height: Any) -> list[Any]:
    """A pointer to each row of a tile; those below the last row of the matrix point to that row."""
    last = builder.sub(height, ir.Constant(_LONG, 1))
    rows = []
    for r in range(ROWS):
        row = ir.Constant(_LONG, r)
        row = builder.select(builder.icmp_signed("<", row, last), row, last) if r else row
        rows.append(builder.gep(base, [builder.mul(row, pitch)]))
    return rows


def _build_multiply(emitter, columns, across, context, builder, signature, operands):
    a, a_start, a_pitch, b, b_start, b_pitch, inner, height, width, buffer, first = operands
    vectors = emitter(builder, context.get_value_type(signature.args[0].dtype))
    one = ir.Constant(_LONG, 1)
    row_pitch, inner_pitch = (one, a_pitch) if across else (a_pitch, one)
    corner, below = builder.gep(a, [a_start]), builder.gep(b, [b_start])
    masks = vectors.masks(width)
    plain = [None] * vectors.vectors
    some = _rows(builder, corner, row_pitch, height)
    every = [builder.gep(corner, [builder.mul(row_pitch, ir.Constant(_LONG, r))]) for r in range(ROWS)]

    def terms(rows: list[Any], masks: list[Any]) -> list[Any]:
        """The sums over all terms, of as many vectors a row as there are masks."""
        before = builder.block
        body, after = (builder.append_basic_block(name) for name in ("term", "after"))
        builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(_LONG)
        sums = [builder.phi(vectors.kind) for _ in range(ROWS * len(masks))]
        line = builder.gep(below, [builder.mul(k, b_pitch)])
        b_row = [vectors.load(vectors.pointer(line, v * vectors.lanes), mask) for v, mask in enumerate(masks)]
        shift = builder.mul(k, inner_pitch)
        results = []
        for r, row in enumerate(rows):
            factor = vectors.splat(builder.load(builder.gep(row, [shift])))
            for v in range(len(masks)):
                results.append(vectors.fma(factor, b_row[v], sums[r * len(masks) + v]))
        following = builder.add(k, one)
        builder.cbranch(builder.icmp_signed("<", following, inner), body, after)
        k.add_incoming(ir.Constant(_LONG, 0), before)
        k.add_incoming(following, body)
        for phi, value in zip(sums, results, strict=True):
            phi.add_incoming(vectors.zero, before)
            phi.add_incoming(value, body)
        builder.position_at_end(after)
        if len(masks) < vectors.vectors:  # the rest of the row has no meaning
            results = [results[r] if v == 0 else vectors.zero for r in range(ROWS) for v in range(vectors.vectors)]
        return results

    whole, other, narrow, part, done, first_block, later_block, end = (
        builder.append_basic_block(name)
        for name in ("whole", "other", "narrow", "part", "summed", "first_block", "later_block", "end")
    )
    # Whole tiles need no masks, and the addresses of their rows are regular, which saves registers.  The last column
    # of a matrix often fits the first vector of each row.
    all_rows = builder.icmp_signed("==", height, ir.Constant(_LONG, ROWS))
    all_columns = builder.icmp_signed("==", width, ir.Constant(_LONG, columns))
    builder.cbranch(builder.and_(all_rows, all_columns), whole, other)
    builder.position_at_end(other)
    builder.cbranch(builder.icmp_signed("<=", width, ir.Constant(_LONG, vectors.lanes)), narrow, part)
    ways = []
    for block, rows, given in ((whole, every, plain), (narrow, some, masks[:1]), (part, some, masks)):
        builder.position_at_end(block)
        ways.append((terms(rows, given), builder.block))
        builder.branch(done)
    builder.position_at_end(done)
    results = []
    for i in range(ROWS * vectors.vectors):
        result = builder.phi(vectors.kind)
        for values, block in ways:
            result.add_incoming(values[i], block)
        results.append(result)
    places = [vectors.pointer(buffer, i * vectors.lanes) for i in range(len(results))]
    builder.cbranch(first, first_block, later_block)
    builder.position_at_end(first_block)
    for result, place in zip(results, places, strict=True):
        vectors.store(result, place)
    builder.branch(end)
    builder.position_at_end(later_block)
    for result, place in zip(results, places, strict=True):
        vectors.store(builder.fadd(vectors.load(place), result), place)
    builder.branch(end)
    builder.position_at_end(end)
    return context.get_dummy_value()


def _tile_of_buffer(builder, columns, data, place):
    return builder.gep(data, [builder.mul(place, ir.Constant(_LONG, ROWS * columns))])


def _build_fetch(emitter, columns, context, builder, signature, operands):
    x, start, pitch, height, width, buffer, place = operands
    vectors = emitter(builder, context.get_value_type(signature.args[0].dtype))
    masks = vectors.masks(width)
    base = builder.gep(x, [start])
    out = _tile_of_buffer(builder, columns, buffer, place)
    for r, row in enumerate(_rows(builder, base, pitch, height)):
        for v, mask in enumerate(masks):
            value = vectors.load(vectors.pointer(row, v * vectors.lanes), mask)
            vectors.store(value, vectors.pointer(out, r * columns + v * vectors.lanes))
    return context.get_dummy_value()


def _build_gather(emitter, columns, context, builder, signature, operands):
    x, start, pitch, height, width, buffer, place = operands
    vectors = emitter(builder, context.get_value_type(signature.args[0].dtype))
    masks = vectors.masks(width)
    base = builder.gep(x, [start])
    out = _tile_of_buffer(builder, columns, buffer, place)
    for r, line in enumerate(_rows(builder, base, ir.Constant(_LONG, 1), height)):
        for v, mask in enumerate(masks):
            value = vectors.gather(line, pitch, v * vectors.lanes, mask)
            vectors.store(value, vectors.pointer(out, r * columns + v * vectors.lanes))
    return context.get_dummy_value()


def _build_put(emitter, columns, context, builder, signature, operands):
    buffer, place, x, start, pitch, height, width = operands
    vectors = emitter(builder, context.get_value_type(signature.args[2].dtype))
    masks = vectors.masks(width)
    base = builder.gep(x, [start])
    values = _tile_of_buffer(builder, columns, buffer, place)
    for r, row in enumerate(_rows(builder, base, pitch, height)):
        inside = vectors.splat(builder.icmp_signed("<", ir.Constant(_LONG, r), height))
        for v, mask in enumerate(masks):
            value = vectors.load(vectors.pointer(values, r * columns + v * vectors.lanes))
            place_ = vectors.pointer(row, v * vectors.lanes)
            vectors.store(value, place_, builder.and_(mask, inside))
    return context.get_dummy_value()
