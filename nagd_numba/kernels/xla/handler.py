"""The compiled function that XLA calls: a rule over all arrays of a call.

A call has `K` numbers that are known only when it runs, and for each of `N` parameters some arrays:

    step     operands  K numbers, N parameters, N gradients, N of each state
             results   N parameters, N of each state, in the memory of the operands
    change   operands  K numbers, with weight decay N parameters, N gradients, N of each state
             results   N changes in the memory of the gradients, N of each state in that of the operands
             (a change is what is to be added to the parameter: the rule at 0, and what the decay adds)

    attributes  hyper   float64 (H,): the hyper-parameters of the rule
                traced  int64 (H,): which of the K numbers each is instead, or -1

Numbers that are arrays of `B` elements make the call one of `B` rules, each for its part of all other arrays: so
`jax.vmap` is one call.  All is checked before anything is written.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ..elementwise import LINE, all_finite, limits, linked_loop
from ..forms import PARALLEL_FROM
from ..jit import c_function, subroutine
from ..linking import Interface, linked
from ..parallel import BODY
from ..pointers import load_each, load_tuple, pointer_at, restorer, spill, store_each
from ..rounding import fma
from ..rule import Rule
from ..template import template
from . import checks
from .checks import ARGS, COUNT, DONE, NUMBERS, ROWS, TOGETHER_ERROR, TOTAL
from .frame import Offsets, data_of_each, element, length, texts, word
from .pool import pool

SHARE = 8_192  # elements, at least
MOST_SHARES = 256
NO_DECAY, L2, DECOUPLED = range(3)


@dataclass(frozen=True)
class Kind:
    """What a handler does.

    rule      whose update
    options   of the rule
    dtype     of all arrays
    change    make changes, not new parameters
    decay     of changes: with weight decay, and which
    maximize  of changes: the gradient points up
    """

    rule: Rule
    options: tuple[Any, ...]
    dtype: np.dtype[Any]
    change: bool = False
    decay: int = NO_DECAY
    maximize: bool = False

    @property
    def operands(self) -> int:
        """Arrays that go in, for each parameter."""
        return len(self.rule.states) + (1 + (self.decay != NO_DECAY) if self.change else 2)

    @property
    def results(self) -> int:
        """Arrays that come out, for each parameter."""
        return 1 + len(self.rule.states)

    @property
    def aliases(self) -> tuple[int, ...]:
        """Which of the operands' arrays each of the results is in."""
        first = 0 if self.change and self.decay == NO_DECAY else 1
        return (first if self.change else 0, *range(first + 1, first + self.results))

    @property
    def name(self) -> str:
        """What it is called in a program of XLA: the same in every process."""
        form = f"change_{self.decay}_{self.maximize}" if self.change else "step"
        return f"nagd_numba.{form}.{self.rule.kernel_name(self.options)}.{self.dtype.name}"


@template
def change_over_range(update, OPTIONS, DECAY, MAXIMIZE):
    """`elementwise.over_range` for changes: `grads` becomes what is to be added to `params`."""

    def change_over_range(params, grads, states, first, last, scalars, decay):
        for i in range(first, last):
            g = grads[i]
            if MAXIMIZE:
                g = -g
            if DECAY == L2:
                g = fma(decay, params[i], g)
            change, state = update(type(g)(0), g, load_each(states, i), scalars, OPTIONS)
            if DECAY == DECOUPLED:
                change = fma(-decay, params[i], change)
            grads[i] = change
            store_each(states, i, state)

    return change_over_range


@template
def step_of(loop):
    def step_of(at, first, last, scalars, decay):
        loop(at[0], at[1], at[2:], first, last, scalars)

    return step_of


@template
def change_of(loop):
    def change_of(at, first, last, scalars, decay):
        loop(at[0], at[0], at[1:], first, last, scalars, decay)

    return change_of


@template
def decayed_change_of(loop):
    def decayed_change_of(at, first, last, scalars, decay):
        loop(at[0], at[1], at[2:], first, last, scalars, decay)

    return decayed_change_of


@template
def share_of_call(apply, restore, data, AT):
    """A share of the elements of all arrays, of row `row` of `rows`."""

    def share_of_call(context, share):
        args, first_array, count, row, rows, total, shares, scalars, decay = restore(context)
        size = ((total + shares - 1) // shares + LINE - 1) // LINE * LINE
        first, last = min(total, share * size), min(total, (share + 1) * size)
        start, k = np.int64(0), first_array
        while first < last:
            end = start + length(element(args, k), AT) // rows
            if first < end:
                at = row * (end - start) - start
                apply(data(args, k, count), at + first, at + min(last, end), scalars, decay)
                first = min(last, end)
            start = end
            k += 1

    return share_of_call


@template
def prepared(constants, T, OPTIONS, COUNT, CHANGE, DECAY, LR, WEIGHT_DECAY):
    """What the update needs of the hyper-parameters, and what a decay that is not its own needs."""

    def prepared(hyper):
        decay = 0.0
        if CHANGE:
            if DECAY == L2:
                decay = hyper[WEIGHT_DECAY]
            elif DECAY == DECOUPLED:
                decay = hyper[LR] * hyper[WEIGHT_DECAY]
            hyper[WEIGHT_DECAY] = 0.0
        return constants(load_tuple(hyper, 0, COUNT), T, OPTIONS), T(decay)

    return prepared


@template
def handler(opening, numbers, failed, prepared, locate, call, pooled, texts, T, ABOUT, LOW, BELOW, WHOLE, AT):
    COUNT_OF_HYPER = len(LOW)
    STATE = 7 * (0,)
    NOTHING = COUNT_OF_HYPER * (0.0,)

    def handler(frame):
        about = spill((*ABOUT, texts(), spill(LOW), spill(BELOW), spill(WHOLE)))
        state = spill(STATE)
        error = opening(frame, about, state)
        if error != 0:
            return error if error != DONE else 0
        args, first, count = element(state, ARGS), element(state, NUMBERS), element(state, COUNT)
        rows, total = element(state, ROWS), element(state, TOTAL)
        to = spill(NOTHING)
        hyper = pointer_at(to, np.float64)
        for row in range(rows - 1, -1, -1):  # the constants of row 0 are the last
            error = numbers(frame, about, state, row, to)
            if error != 0:
                return error
            scalars, decay = prepared(hyper)
            if not all_finite(scalars) or not math.isfinite(decay):
                return failed(frame, about, TOGETHER_ERROR, AT.invalid_argument)
        shares = min(MOST_SHARES, total // SHARE) if total >= PARALLEL_FROM else 1
        for row in range(rows):
            if row > 0:
                numbers(frame, about, state, row, to)
                scalars, decay = prepared(hyper)
            context = spill((args, first, count, row, rows, total, shares, scalars, decay))
            if shares > 1:
                pooled(word(frame + AT.api), word(frame + AT.ctx), locate(), context, shares)
            else:
                call(context, 0)
        return 0

    return handler


@functools.cache
def compiled(kind: Kind, at: Offsets) -> Any:
    """The handler, with its `address`; what is returned must be kept."""
    rule, dtype = kind.rule, from_dtype(kind.dtype)
    T = kind.dtype.type
    names = tuple(rule.hyper)
    share = linked(
        share_of_call.bind(
            apply=_apply(kind, dtype),
            restore=restorer(_context(rule, dtype)),
            data=data_of_each(kind.operands, dtype, at),
            AT=at,
        ),
        BODY,
    )
    numbers = prepared.bind(
        constants=rule.constants,
        T=T,
        OPTIONS=kind.options,
        COUNT=len(names),
        CHANGE=kind.change,
        DECAY=kind.decay,
        LR=names.index("lr"),
        WEIGHT_DECAY=names.index("weight_decay") if kind.change else 0,
    )
    ranges = [(x, str(rule.range_of(x))) for x in names]
    aliases = kind.aliases
    bound = handler.bind(
        opening=checks.opening(at).call,
        numbers=checks.numbers(at).call,
        failed=checks.failed(at).call,
        prepared=subroutine(numbers),
        locate=share.locate,
        call=share.call,
        pooled=pool(at).call,
        texts=texts(checks.texts_of(rule.name, kind.dtype.name, ranges)),
        T=T,
        ABOUT=(
            len(names),
            kind.operands,
            kind.results,
            aliases[0],
            aliases[1],
            at.f32 if kind.dtype == np.float32 else at.f64,
        ),
        WHOLE=tuple(int(rule.range_of(x).whole) for x in names),
        AT=at,
        **limits(rule),
    )
    return c_function(bound, types.int64(types.int64))


def _apply(kind: Kind, dtype: Any) -> Any:
    rule = kind.rule
    if not kind.change:
        return subroutine(step_of.bind(loop=linked_loop(rule, kind.options, dtype).call))
    loop = change_over_range.bind(
        update=rule.update_of(kind.options), OPTIONS=kind.options, DECAY=kind.decay, MAXIMIZE=kind.maximize
    )
    x = types.CPointer(dtype)
    scalars = types.UniTuple(dtype, rule.constant_count)
    states = types.UniTuple(x, len(rule.states))
    interface = Interface(types.void(x, x, states, types.int64, types.int64, scalars, dtype))
    form = change_of if kind.decay == NO_DECAY else decayed_change_of
    return subroutine(form.bind(loop=linked(loop, interface).call))


def _context(rule: Rule, dtype: Any) -> types.Type:
    """The types of what a share is told: see `share_of_call`."""
    return types.Tuple([*7 * [types.int64], types.UniTuple(dtype, rule.constant_count), dtype])
