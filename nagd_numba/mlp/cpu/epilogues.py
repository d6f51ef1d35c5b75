"""What is done to a tile of a product while it is in the cache.

Each is compiled once for a dtype (and an activation, or an update rule), and called at its address with what it needs
(`to`, which the caller spills):

    forward    out = dropout(activation(sum + bias)), or sum + bias     of `h W`
    backward   out = sum * derivative of dropout and activation at h    of `d W^T`
    gradient   out = sum + l2 w, added to what is there if `more`       of `h^T d`
    update     the same gradient, given to the update rule at once      of `h^T d`

The buffer has the sums in tile 0, each row with all columns, also where the matrix has fewer: what is computed of the
others is not written anywhere.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels.aligned import LINE
from ...kernels.jit import inlined, subroutine
from ...kernels.linking import Linked, linked
from ...kernels.pointers import load_tuple, peek, peek_each, poke, poke_each, restorer, shifted, spread
from ...kernels.rounding import add
from ...kernels.rule import Rule
from ...kernels.template import template
from ..activations import ACTIVATIONS
from ..elements import flushed, hidden_delta, hidden_unit, penalised
from .gemm import epilogue_interface
from .microkernel import ROWS, prefetch, tile

TILES = 6  # of a buffer: the sums, parameters, and up to four states of a rule
SHORT = 32  # columns: LLVM unrolls a loop over fewer of them, and does not vectorise it
LARGE = 1 << 14  # parameters from which on those of the next tile are fetched


@inlined
def whole(height):
    """Rows of a tile, rounded up to what fills turns of four vectors; loops over the columns LLVM would unroll."""
    return (height + 1) // 2 * 2


@template
def forward_epilogue(unit, dropped_unit, restore, fetch, put, T, COLUMNS, TILE):
    def forward_epilogue(buffer, i, j, height, width, context):
        params, biases, out, start, pitch, last, key, threshold, keep = restore(context)
        bias = shifted(buffer, TILE)
        fetch(params, biases + j, 0, height, width, bias)
        scale = T(1.0 / keep)
        if last:
            for e in range(whole(height) * COLUMNS):
                poke(buffer, e, add(peek(buffer, e, 0), peek(bias, e, 1)), 0)
        elif threshold != 0:
            for r in range(height):
                line = (i + r) * pitch + j
                for q in range(COLUMNS):
                    e = r * COLUMNS + q
                    total, own = peek(buffer, e, 0), peek(bias, e, 1)
                    poke(buffer, e, dropped_unit(total, own, key, line + q, threshold, scale), 0)
        else:
            for e in range(whole(height) * COLUMNS):
                poke(buffer, e, unit(peek(buffer, e, 0), peek(bias, e, 1), key, e, threshold, scale), 0)
        put(buffer, out, start + i * pitch + j, pitch, height, width)

    return forward_epilogue


@template
def backward_epilogue(delta, dropped_delta, restore, fetch, put, T, COLUMNS, TILE):
    def backward_epilogue(buffer, i, j, height, width, context):
        h, h_start, out, start, pitch, key, threshold, keep = restore(context)
        units = shifted(buffer, TILE)
        fetch(h, h_start + i * pitch + j, pitch, height, width, units)
        scale, kept = T(1.0 / keep), T(keep)
        if threshold != 0:
            for r in range(height):
                line = (i + r) * pitch + j
                for q in range(COLUMNS):
                    e = r * COLUMNS + q
                    total, unit = peek(buffer, e, 0), peek(units, e, 1)
                    poke(buffer, e, dropped_delta(total, unit, key, line + q, threshold, scale, kept), 0)
        else:
            for e in range(whole(height) * COLUMNS):
                poke(buffer, e, delta(peek(buffer, e, 0), peek(units, e, 1), key, e, threshold, scale, kept), 0)
        put(buffer, out, start + i * pitch + j, pitch, height, width)

    return backward_epilogue


@template
def gradient_epilogue(restore, fetch, put, COLUMNS, TILE):
    def gradient_epilogue(buffer, i, j, height, width, context):
        params, out, start, pitch, l2, more, _, _ = restore(context)
        corner, other = start + i * pitch + j, shifted(buffer, TILE)
        if l2 != 0:
            fetch(params, corner, pitch, height, width, other)
            for e in range(whole(height) * COLUMNS):
                poke(buffer, e, penalised(peek(buffer, e, 0), peek(other, e, 1), l2, True), 0)
        if more:
            fetch(out, corner, pitch, height, width, other)
            for e in range(whole(height) * COLUMNS):
                poke(buffer, e, add(peek(other, e, 1), peek(buffer, e, 0)), 0)
        put(buffer, out, corner, pitch, height, width)

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
def update_epilogue(element, restore, fetch, put, TESTED, STATES, SCALARS, COLUMNS, TILE, ITEMSIZE):
    """Bit k of TESTED says whether the rule compares scalar k with 0."""
    IN_PLACE = COLUMNS >= SHORT

    def update_epilogue(buffer, i, j, height, width, context):
        params, first_state, start, pitch, l2, _, constants, size = restore(context)
        corner = start + i * pitch + j
        scalars = load_tuple(constants, 0, SCALARS)
        # Long rows are updated where they are, others in the buffer, which has whole rows.
        here, state, stride, line = shifted(params, corner), shifted(first_state, corner), size, pitch
        moved = width < COLUMNS or not IN_PLACE
        if moved:
            here, state, stride, line = shifted(buffer, TILE), shifted(buffer, 2 * TILE), TILE, COLUMNS
            fetch(params, corner, pitch, height, width, here)
            for s in range(STATES):
                fetch(first_state, corner + s * size, pitch, height, width, shifted(state, s * TILE))
        if size >= LARGE:  # the tile below comes soon
            for r in range(height, 2 * height):
                for q in range(0, width, LINE // ITEMSIZE):
                    prefetch(params, corner + r * pitch + q)
                    for s in range(STATES):
                        prefetch(first_state, corner + s * size + r * pitch + q)
        states = spread(state, stride, STATES)
        # The same loop again where nothing is 0: rules ask for it in each element, which LLVM does not hoist by itself.
        usual = l2 == 0
        for k in range(SCALARS):
            usual &= TESTED >> k & 1 == 0 or constants[k] != 0
        if IN_PLACE:
            if usual:
                for r in range(height):
                    for q in range(COLUMNS):
                        element(buffer, r * COLUMNS + q, here, states, r * line + q, l2, scalars)
            else:
                for r in range(height):
                    for q in range(COLUMNS):
                        element(buffer, r * COLUMNS + q, here, states, r * line + q, l2, scalars)
        elif usual:
            for e in range(whole(height) * COLUMNS):
                element(buffer, e, here, states, e, l2, scalars)
        else:
            for e in range(whole(height) * COLUMNS):
                element(buffer, e, here, states, e, l2, scalars)
        if moved:
            put(here, params, corner, pitch, height, width)
            for s in range(STATES):
                put(shifted(state, s * TILE), first_state, corner + s * size, pitch, height, width)

    return update_epilogue


def _types(dtype: str) -> tuple[types.Type, types.Type]:
    kind = from_dtype(np.dtype(dtype))
    return kind, types.CPointer(kind)


@functools.cache
def forward_needs(dtype: str) -> Any:
    """Parameters, and the offset of the biases there; out, its offset and pitch; is it the last layer, which has no
    activation; key, threshold (0: no dropout) and keep.
    """
    _, x = _types(dtype)
    size = types.int64
    return types.Tuple((x, size, x, size, size, types.boolean, types.uint64, types.uint64, types.float64))


@functools.cache
def backward_needs(dtype: str) -> Any:
    """Activations and their offset; out, its offset, and the pitch of both; key, threshold and keep."""
    _, x = _types(dtype)
    size = types.int64
    return types.Tuple((x, size, x, size, size, types.uint64, types.uint64, types.float64))


@functools.cache
def weights_needs(dtype: str) -> Any:
    """Parameters; where the gradient goes, or the first state; offset and pitch in both; l2; more (see above); the
    rule's scalars; the size of a state.
    """
    kind, x = _types(dtype)
    size = types.int64
    return types.Tuple((x, x, size, size, kind, types.boolean, x, size))


def _moves(dtype: str) -> dict[str, Any]:
    """The slots about tiles that all have."""
    made = tile(dtype)
    return {"fetch": made.fetch, "put": made.put, "COLUMNS": made.columns, "TILE": ROWS * made.columns}


@functools.cache
def forward(dtype: str, activation: str) -> Linked:
    """Of the product of a layer; hidden layers have this activation."""
    value = ACTIVATIONS[activation].value
    bound = forward_epilogue.bind(
        unit=inlined(hidden_unit.bind(activate=value, DROPOUT=False)),
        dropped_unit=inlined(hidden_unit.bind(activate=value, DROPOUT=True)),
        restore=restorer(forward_needs(dtype)),
        T=np.dtype(dtype).type,
        **_moves(dtype),
    )
    return linked(bound, epilogue_interface(dtype))


@functools.cache
def backward(dtype: str, activation: str) -> Linked:
    """Of the product that makes the deltas below a layer whose inputs have this activation."""
    derivative = ACTIVATIONS[activation].derivative
    bound = backward_epilogue.bind(
        delta=inlined(hidden_delta.bind(derivative=derivative, DROPOUT=False)),
        dropped_delta=inlined(hidden_delta.bind(derivative=derivative, DROPOUT=True)),
        restore=restorer(backward_needs(dtype)),
        T=np.dtype(dtype).type,
        **_moves(dtype),
    )
    return linked(bound, epilogue_interface(dtype))


@functools.cache
def gradient(dtype: str) -> Linked:
    """Of the product that makes the gradient of a layer's weights."""
    bound = gradient_epilogue.bind(restore=restorer(weights_needs(dtype)), **_moves(dtype))
    return linked(bound, epilogue_interface(dtype))


@functools.cache
def update(dtype: str, rule: Rule, options: tuple[Any, ...]) -> Linked:
    """The same, given to an update rule."""
    bound = update_epilogue.bind(
        element=subroutine(update_element.bind(update=rule.update_of(options), OPTIONS=options)),
        restore=restorer(weights_needs(dtype)),
        TESTED=sum(1 << k for k in rule.tested),
        STATES=len(rule.states),
        SCALARS=rule.constant_count,
        ITEMSIZE=np.dtype(dtype).itemsize,
        **_moves(dtype),
    )
    return linked(bound, epilogue_interface(dtype))
