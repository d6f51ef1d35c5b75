"""What a product does with each element of its result: the epilogues of `gemm.py`.

An epilogue is two functions: `prefetch(at, j, to)` reads what is needed beside the sum of element `at`, in column `j`,
as a tuple, and `write(total, operands, at, last_row, to)` finishes the element.  `to` has pointers and scalars.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import types

from ...gpu.pointer_tuples import load_strided, store_strided
from ...gpu.pointers import load, store
from ...kernels.jit import inlined
from ...kernels.rounding import add
from ...kernels.template import template
from ..activations import ACTIVATIONS
from ..elements import flushed, hidden_delta, hidden_unit, penalised


class Epilogue(NamedTuple):
    """The functions of an epilogue, how many operands it reads, and the type of `to`."""

    prefetch: Any
    write: Any
    operands: int
    to: types.Tuple


def epilogue(purpose: str, kind: Any, scalar: types.Float) -> Epilogue:
    """The epilogue of a product for a purpose and a `gemm.Kind`."""
    pointer, word, long = types.CPointer(scalar), types.uint64, types.int64
    if purpose == "hidden":
        unit = inlined(hidden_unit.bind(activate=ACTIVATIONS[kind.activation].value, DROPOUT=kind.dropout))
        to = types.Tuple((pointer, pointer, word, word, scalar))
        return Epilogue(inlined(first_by_column), inlined(write_hidden.bind(unit=unit)), 1, to)
    if purpose == "output":
        return Epilogue(inlined(first_by_column), inlined(write_output), 1, types.Tuple((pointer, pointer)))
    if purpose == "delta":
        delta = inlined(hidden_delta.bind(derivative=ACTIVATIONS[kind.activation].derivative, DROPOUT=kind.dropout))
        to = types.Tuple((pointer, pointer, word, word, scalar, scalar))
        return Epilogue(inlined(first_by_element), inlined(write_delta.bind(delta=delta)), 1, to)
    if purpose == "gradient":
        to = types.Tuple((pointer, pointer, scalar, long))
        return Epilogue(inlined(weight_or_gradient), inlined(write_gradient), 1, to)
    states = len(kind.rule.states)
    scalars = types.UniTuple(scalar, kind.rule.constant_count)
    write = inlined(write_update.bind(update=kind.rule.update, OPTIONS=kind.options))
    to = types.Tuple((pointer, pointer, long, scalar, scalars))
    return Epilogue(inlined(weight_and_states.bind(STATES=states)), write, 1 + states, to)


def first_by_column(at, j, to):
    return (load(to[0], j),)


def first_by_element(at, j, to):
    return (load(to[0], at),)


@template
def write_hidden(unit):
    def write_hidden(total, operands, at, last_row, to):
        """`to`: biases, out, key and threshold of the dropout, its scale."""
        store(to[1], at, unit(total, operands[0], to[2], at, to[3], to[4]))

    return write_hidden


def write_output(total, operands, at, last_row, to):
    """`to`: biases, out."""
    store(to[1], at, add(total, operands[0]))


@template
def write_delta(delta):
    def write_delta(total, operands, at, last_row, to):
        """`to`: activations of the layer, out, key and threshold of the dropout, its scale and the inverse."""
        store(to[1], at, delta(total, operands[0], to[2], at, to[3], to[4], to[5]))

    return write_delta


def weight_or_gradient(at, j, to):
    params, out, _, more = to
    source = out if more != 0 else params
    return (load(source, at),)


def write_gradient(total, operands, at, last_row, to):
    """`to`: params, out, weight of the penalty, more.  The last row has the biases, which are not penalised."""
    _, out, decay, more = to
    if more != 0:
        total = add(operands[0], total)
    else:
        total = penalised(total, operands[0], decay, not last_row)
    store(out, at, total)


@template
def weight_and_states(STATES):
    def weight_and_states(at, j, to):
        params, vel, size, _, _ = to
        return (load(params, at), *load_strided(vel, at, size, STATES))

    return weight_and_states


@template
def write_update(update, OPTIONS):
    def write_update(total, operands, at, last_row, to):
        """`to`: params, vel, from one state to the next, weight of the penalty, the rule's scalars."""
        params, vel, size, decay, scalars = to
        p = operands[0]
        g = penalised(total, p, decay, not last_row)
        p, states = update(p, g, operands[1:], scalars, OPTIONS)
        store(params, at, p)
        store_strided(vel, at, size, flushed(states))

    return write_update
