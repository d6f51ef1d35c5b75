"""The matrix products of the passes, each with its epilogue: what is done to elements while they are in a tile.

Matrices are given by a pointer to the flat vector they lie in, the offset of their first element and a pitch.  Each
product is compiled once for a dtype (and an activation, or an update rule) and called at its address:

    forward    out = dropout(activation(sum + bias)), or sum + bias     of `h W`
    backward   out = sum * derivative of dropout and activation at h    of `d W^T`
    gradient   out = sum + l2 w, added to what is there if `more`       of `h^T d`
    update     the same gradient, given to the update rule at once      of `h^T d`
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels.jit import inlined, subroutine
from ...kernels.linking import Interface, Linked, linked
from ...kernels.pointers import load_tuple, peek, peek_each, poke, poke_each, spread
from ...kernels.rounding import add
from ...kernels.rule import Rule
from ...kernels.template import template
from ..activations import ACTIVATIONS
from ..elements import flushed, hidden_delta, hidden_unit, penalised
from ..sums import BLOCK
from .microkernel import ROWS, tile

# Elements from one row of B to the next, from which on the rows of a column of tiles crowd the same cache lines.
FAR = 512


@template
def product(multiply, pack, epilogue, TRANSPOSED, ACROSS, COLUMNS):
    """Rows `first` to `last` of `A B`, or of `A^T B` with ACROSS, or of `A B^T` with TRANSPOSED, tile by tile.

    `A[i, k]` is `a[a_start + i a_pitch + k]`, and so for B.  `buffer` and `panel` are this thread's own memory.
    """

    def product(a, a_start, a_pitch, b, b_start, b_pitch, first, last, columns, inner, buffer, panel, to):
        for j in range(0, columns, COLUMNS):
            width = min(COLUMNS, columns - j)
            if TRANSPOSED or (b_pitch >= FAR and last - first > 2 * ROWS):
                for k in range(0, inner, ROWS):
                    lines = min(ROWS, inner - k)
                    start = b_start + (j * b_pitch + k if TRANSPOSED else k * b_pitch + j)
                    pack(b, start, b_pitch, lines, width, panel, k // ROWS)
                source, source_start, pitch = panel, 0, COLUMNS
            else:
                source, source_start, pitch = b, b_start + j, b_pitch
            for i in range(first, last, ROWS):
                height = min(ROWS, last - i)
                for k in range(0, inner, BLOCK):
                    terms = min(BLOCK, inner - k)
                    start = a_start + (i + k * a_pitch if ACROSS else i * a_pitch + k)
                    line = source_start + k * pitch
                    multiply(a, start, a_pitch, source, line, pitch, terms, height, width, buffer, k == 0)
                epilogue(b, buffer, i, j, height, width, to)

    return product


@template
def forward_epilogue(unit, dropped_unit, fetch, put, T, COLUMNS, TILE):
    def forward_epilogue(params, buffer, i, j, height, width, to):
        biases, out, start, pitch, last, key, threshold, keep = to
        fetch(params, biases + j, 0, height, width, buffer, 1)
        scale = T(1.0 / keep)
        if last:
            for e in range(TILE):
                buffer[e] = add(buffer[e], buffer[TILE + e])
        elif threshold != 0:
            for r in range(ROWS):
                line = (i + r) * pitch + j
                for q in range(COLUMNS):
                    e = r * COLUMNS + q
                    buffer[e] = dropped_unit(buffer[e], buffer[TILE + e], key, line + q, threshold, scale)
        else:
            for e in range(TILE):
                buffer[e] = unit(buffer[e], buffer[TILE + e], key, e, threshold, scale)
        put(buffer, 0, out, start + i * pitch + j, pitch, height, width)

    return forward_epilogue


@template
def backward_epilogue(delta, dropped_delta, fetch, put, T, COLUMNS, TILE):
    def backward_epilogue(params, buffer, i, j, height, width, to):
        h, h_start, out, start, pitch, key, threshold, keep = to
        fetch(h, h_start + i * pitch + j, pitch, height, width, buffer, 1)
        scale, kept = T(1.0 / keep), T(keep)
        if threshold != 0:
            for r in range(ROWS):
                line = (i + r) * pitch + j
                for q in range(COLUMNS):
                    e = r * COLUMNS + q
                    buffer[e] = dropped_delta(buffer[e], buffer[TILE + e], key, line + q, threshold, scale, kept)
        else:
            for e in range(TILE):
                buffer[e] = delta(buffer[e], buffer[TILE + e], key, e, threshold, scale, kept)
        put(buffer, 0, out, start + i * pitch + j, pitch, height, width)

    return backward_epilogue


@template
def gradient_epilogue(fetch, put, TILE):
    def gradient_epilogue(deltas, buffer, i, j, height, width, to):
        params, out, start, pitch, l2, more, _, _ = to
        corner = start + i * pitch + j
        if l2 != 0:
            fetch(params, corner, pitch, height, width, buffer, 1)
            for e in range(TILE):
                buffer[e] = penalised(buffer[e], buffer[TILE + e], l2, True)
        if more:
            fetch(out, corner, pitch, height, width, buffer, 1)
            for e in range(TILE):
                buffer[e] = add(buffer[TILE + e], buffer[e])
        put(buffer, 0, out, corner, pitch, height, width)

    return gradient_epilogue


@template
def update_element(update, OPTIONS):
    """Update element `i` by its gradient `sums[e]`."""

    def update_element(sums, e, params, states, i, l2, scalars):
        p = peek(params, i, 1)
        p, state = update(p, penalised(peek(sums, e, 0), p, l2, True), peek_each(states, i, 2), scalars, OPTIONS)
        poke(params, i, p, 1)
        poke_each(states, i, flushed(state), 2)

    return update_element


@template
def update_epilogue(element, TESTED, STATES, SCALARS, COLUMNS):
    """Bit k of TESTED says whether the rule compares scalar k with 0."""

    def update_epilogue(deltas, buffer, i, j, height, width, to):
        params, first_state, start, pitch, l2, _, constants, size = to
        corner = start + i * pitch + j
        states, scalars = spread(first_state, size, STATES), load_tuple(constants, 0, SCALARS)
        # The same loop again where nothing is 0: rules ask for it in each element, which LLVM does not hoist by itself.
        usual = height == ROWS and width == COLUMNS and l2 == 0
        for k in range(SCALARS):
            usual &= TESTED >> k & 1 == 0 or constants[k] != 0
        if usual:
            for r in range(ROWS):
                for q in range(COLUMNS):
                    element(buffer, r * COLUMNS + q, params, states, corner + r * pitch + q, l2, scalars)
        else:
            for r in range(height):
                for q in range(width):
                    element(buffer, r * COLUMNS + q, params, states, corner + r * pitch + q, l2, scalars)

    return update_epilogue


def operands(dtype: str) -> tuple[types.Type, ...]:
    """The types of the parameters of a product before `to`."""
    x, size = types.CPointer(from_dtype(np.dtype(dtype))), types.int64
    return (x, size, size, x, *[size] * 6, x, x)


@functools.cache
def forward_interface(dtype: str) -> Interface:
    """`to`: the offset of the biases in `b`; out, its offset and pitch; is it the last layer, which has no activation;
    key, threshold (0: no dropout) and keep.
    """
    x, size = types.CPointer(from_dtype(np.dtype(dtype))), types.int64
    to = types.Tuple((size, x, size, size, types.boolean, types.uint64, types.uint64, types.float64))
    return Interface(types.void(*operands(dtype), to))


@functools.cache
def backward_interface(dtype: str) -> Interface:
    """`to`: activations and their offset; out, its offset, and the pitch of both; key, threshold and keep."""
    x, size = types.CPointer(from_dtype(np.dtype(dtype))), types.int64
    to = types.Tuple((x, size, x, size, size, types.uint64, types.uint64, types.float64))
    return Interface(types.void(*operands(dtype), to))


@functools.cache
def weights_interface(dtype: str) -> Interface:
    """`to`: parameters; where the gradient goes, or the first state; offset and pitch in both; l2; more (see above);
    the rule's scalars; the size of a state.
    """
    kind = from_dtype(np.dtype(dtype))
    x, size = types.CPointer(kind), types.int64
    return Interface(types.void(*operands(dtype), types.Tuple((x, x, size, size, kind, types.boolean, x, size))))


def _product(dtype: str, epilogue: Callable, across: bool = False, transposed: bool = False) -> FunctionType:
    made = tile(dtype)
    return product.bind(
        multiply=made.multiply_across if across else made.multiply,
        pack=made.gather if transposed else made.fetch,
        epilogue=inlined(epilogue),
        TRANSPOSED=transposed,
        ACROSS=across,
        COLUMNS=made.columns,
    )


@functools.cache
def forward_product(dtype: str, activation: str) -> Linked:
    """The product of a layer; hidden layers have this activation."""
    made, value = tile(dtype), ACTIVATIONS[activation].value
    epilogue = forward_epilogue.bind(
        unit=inlined(hidden_unit.bind(activate=value, DROPOUT=False)),
        dropped_unit=inlined(hidden_unit.bind(activate=value, DROPOUT=True)),
        fetch=made.fetch,
        put=made.put,
        T=np.dtype(dtype).type,
        COLUMNS=made.columns,
        TILE=ROWS * made.columns,
    )
    return linked(_product(dtype, epilogue), forward_interface(dtype))


@functools.cache
def backward_product(dtype: str, activation: str) -> Linked:
    """The product that makes the deltas below a layer whose inputs have this activation."""
    made, derivative = tile(dtype), ACTIVATIONS[activation].derivative
    epilogue = backward_epilogue.bind(
        delta=inlined(hidden_delta.bind(derivative=derivative, DROPOUT=False)),
        dropped_delta=inlined(hidden_delta.bind(derivative=derivative, DROPOUT=True)),
        fetch=made.fetch,
        put=made.put,
        T=np.dtype(dtype).type,
        COLUMNS=made.columns,
        TILE=ROWS * made.columns,
    )
    return linked(_product(dtype, epilogue, transposed=True), backward_interface(dtype))


@functools.cache
def gradient_product(dtype: str) -> Linked:
    """The product that makes the gradient of a layer's weights."""
    made = tile(dtype)
    epilogue = gradient_epilogue.bind(fetch=made.fetch, put=made.put, TILE=ROWS * made.columns)
    return linked(_product(dtype, epilogue, across=True), weights_interface(dtype))


@functools.cache
def update_product(dtype: str, rule: Rule, options: tuple[Any, ...]) -> Linked:
    """The same, given to an update rule."""
    element = subroutine(update_element.bind(update=rule.update_of(options), OPTIONS=options))
    epilogue = update_epilogue.bind(
        element=element,
        TESTED=sum(1 << k for k in rule.tested),
        STATES=len(rule.states),
        SCALARS=rule.constant_count,
        COLUMNS=tile(dtype).columns,
    )
    return linked(_product(dtype, epilogue, across=True), weights_interface(dtype))
