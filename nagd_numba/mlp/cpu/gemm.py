"""The matrix products of the passes, each with what is done to its elements while they are in a tile.

Templates, bound to one dtype, activation and rule by `bindings.py`.  Matrices are given by a pointer to the flat vector
they lie in (`pointers.pointer`), the offset of their first element and a pitch.  `to` holds what `finish` needs:

    finish_hidden    out = dropout(activation(sum + bias))
    finish_output    out = sum + bias
    finish_delta     out = sum * derivative of dropout and activation at h
    finish_gradient  out = sum + l2 w, added to what is there if `more`
    finish_update    the same gradient, given to the update rule at once
"""

from __future__ import annotations

from typing import Any

from ...kernels.mathfuncs import flush_subnormal
from ...kernels.pointers import peek, pointer, poke
from ...kernels.rounding import add, fma, mul
from ..dropout import drop, drop_delta
from ..sums import BLOCK

# Bound when a product is compiled.
multiply: Any = None
multiply_across: Any = None
fetch: Any = None
gather: Any = None
put: Any = None
finish: Any = None
activate: Any = None
slope: Any = None
update: Any = None
element: Any = None
OPTIONS: Any = None
DROPOUT: Any = None
ACROSS: Any = None
TRANSPOSED: Any = None
ROWS: Any = None
COLUMNS: Any = None
TILE: Any = None

FAR = 512  # elements from one row of B to the next, from which on the rows of a column of tiles crowd the same places
# of the cache


def product(a, a_start, a_pitch, b, b_start, b_pitch, first, last, columns, inner, buffer, panel, to):
    """Rows `first` to `last` of `A B`, or of `A^T B` with ACROSS, or of `A B^T` with TRANSPOSED, tile by tile.

    `A[i, k]` is `a[a_start + i a_pitch + k]`, and so for B.  `buffer` and `panel` are vectors of this thread's own.
    """
    sums, packed = pointer(buffer), pointer(panel)
    for j in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - j)
        if TRANSPOSED or (b_pitch >= FAR and last - first > 2 * ROWS):
            for k in range(0, inner, ROWS):
                lines = min(ROWS, inner - k)
                if TRANSPOSED:
                    gather(b, b_start + j * b_pitch + k, b_pitch, lines, width, packed, k // ROWS)
                else:
                    fetch(b, b_start + k * b_pitch + j, b_pitch, lines, width, packed, k // ROWS)
            source, source_start, pitch = packed, 0, COLUMNS
        else:
            source, source_start, pitch = b, b_start + j, b_pitch
        for i in range(first, last, ROWS):
            height = min(ROWS, last - i)
            for k in range(0, inner, BLOCK):
                terms = min(BLOCK, inner - k)
                line = source_start + k * pitch
                if ACROSS:
                    start = a_start + i + k * a_pitch
                    multiply_across(a, start, a_pitch, source, line, pitch, terms, height, width, sums, k == 0)
                else:
                    start = a_start + i * a_pitch + k
                    multiply(a, start, a_pitch, source, line, pitch, terms, height, width, sums, k == 0)
            finish(buffer, i, j, height, width, to)


def finish_hidden(buffer, i, j, height, width, to):
    params, biases, out, start, pitch, key, threshold, keep = to
    fetch(params, biases + j, 0, height, width, pointer(buffer), 1)
    for e in range(TILE):
        buffer[e] = activate(add(buffer[e], buffer[TILE + e]))
    if DROPOUT:
        scale = buffer.dtype.type(1.0 / keep)
        for r in range(ROWS):
            line = (i + r) * pitch + j
            for q in range(COLUMNS):
                e = r * COLUMNS + q
                buffer[e] = drop(buffer[e], key, line + q, threshold, scale)
    put(pointer(buffer), 0, out, start + i * pitch + j, pitch, height, width)


def finish_output(buffer, i, j, height, width, to):
    params, biases, out, start, pitch = to
    fetch(params, biases + j, 0, height, width, pointer(buffer), 1)
    for e in range(TILE):
        buffer[e] = add(buffer[e], buffer[TILE + e])
    put(pointer(buffer), 0, out, start + i * pitch + j, pitch, height, width)


def finish_delta(buffer, i, j, height, width, to):
    h, h_start, out, start, pitch, key, threshold, keep = to
    fetch(h, h_start + i * pitch + j, pitch, height, width, pointer(buffer), 1)
    if DROPOUT:
        T = buffer.dtype.type
        scale, unscale = T(1.0 / keep), T(keep)
        for r in range(ROWS):
            line = (i + r) * pitch + j
            for q in range(COLUMNS):
                e = r * COLUMNS + q
                d = mul(buffer[e], slope(mul(buffer[TILE + e], unscale)))
                buffer[e] = drop_delta(d, key, line + q, threshold, scale)
    else:
        for e in range(TILE):
            buffer[e] = mul(buffer[e], slope(buffer[TILE + e]))
    put(pointer(buffer), 0, out, start + i * pitch + j, pitch, height, width)


def finish_gradient(buffer, i, j, height, width, to):
    params, out, start, pitch, l2, more = to
    corner = start + i * pitch + j
    if l2 != 0:
        fetch(params, corner, pitch, height, width, pointer(buffer), 1)
        for e in range(TILE):
            buffer[e] = fma(l2, buffer[TILE + e], buffer[e])
    if more:
        fetch(out, corner, pitch, height, width, pointer(buffer), 1)
        for e in range(TILE):
            buffer[e] = add(buffer[TILE + e], buffer[e])
    put(pointer(buffer), 0, out, corner, pitch, height, width)


def update_at(sums, e, params, vel, i, l2, scalars):
    """Update element `i` by its gradient `sums[e]`."""
    p, v, g = peek(params, i, 1), peek(vel, i, 2), peek(sums, e, 0)
    g = fma(l2, p, g) if l2 != 0 else g
    p, state = update(p, g, (v,), scalars, OPTIONS)
    poke(params, i, p, 1)
    poke(vel, i, flush_subnormal(state[0]), 2)


def finish_update(buffer, i, j, height, width, to):
    params, vel, start, pitch, l2, scalars = to
    sums, corner = pointer(buffer), start + i * pitch + j
    # The same loop again where nothing is 0: rules ask for it in each element, which LLVM does not hoist by itself.
    if height == ROWS and width == COLUMNS and scalars[1] != 0 and scalars[2] != 0 and l2 == 0:
        for r in range(ROWS):
            for q in range(COLUMNS):
                element(sums, r * COLUMNS + q, params, vel, corner + r * pitch + q, l2, scalars)
    else:
        for r in range(height):
            for q in range(width):
                element(sums, r * COLUMNS + q, params, vel, corner + r * pitch + q, l2, scalars)
