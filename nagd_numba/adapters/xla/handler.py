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

from ...kernels.elementwise import LINE, all_finite, limits, linked_loop
from ...kernels.jit import c_function, inlined, subroutine
from ...kernels.linking import Interface, Linked, linked
from ...kernels.parallel import BODY
from ...kernels.pointers import load_each, load_tuple, pointer_at, restorer, spill, store_each
from ...kernels.rounding import fma
from ...kernels.rule import Rule
from ...kernels.template import template
from .frame import Offsets, answer_metadata, data_of_each, element, failure, half, length, shown, texts, word
from .pool import pool

PARALLEL_FROM = 40_000  # elements (as in `optimizers._host`)
SHARE = 8_192  # elements, at least
MOST_SHARES = 256
NO_DECAY, L2, DECOUPLED = range(3)
_FRAME, _STAGE, _ARRAYS, _PLACE, _TOGETHER, _HYPER = range(6)  # errors; the last is that of the first hyper-parameter


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


@inlined
def number(buffer, k, AT):
    """Element `k` of an operand of numbers, exactly (whole ones are below 2^53)."""
    kind, data = half(buffer + AT.buffer_type), word(buffer + AT.data)
    if kind == AT.f64:
        return pointer_at(data, np.float64)[k]
    if kind == AT.f32:
        return np.float64(pointer_at(data, np.float32)[k])
    if kind == AT.s32:
        return np.float64(pointer_at(data, np.int32)[k])
    if kind == AT.s64:
        return np.float64(pointer_at(data, np.int64)[k])
    return np.nan


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
def handler(prepared, locate, call, pooled, text, T, LOW, BELOW, WHOLE, ARRAYS, ALIASES, DTYPE, AT):
    COUNT = len(LOW)
    NOTHING = (0.0,) * COUNT

    def handler(frame):
        if answer_metadata(frame, AT):
            return np.int64(0)
        api = word(frame + AT.api)
        if word(frame) < AT.frame_size or word(api) < AT.api_size or word(frame + AT.attrs_size) != 2:
            return failure(frame, AT.internal, text(_FRAME), AT)
        if half(frame + AT.stage) != AT.execute:
            return failure(frame, AT.internal, text(_STAGE), AT)
        args, rets, attrs = word(frame + AT.args), word(frame + AT.rets), word(frame + AT.attrs)
        for k in range(2):
            if word(element(attrs, k) + AT.array_size) != COUNT:
                return failure(frame, AT.internal, text(_FRAME), AT)
        given = pointer_at(word(element(attrs, 0) + AT.array_data), np.float64)
        traced = pointer_at(word(element(attrs, 1) + AT.array_data), np.int64)

        numbers = np.int64(0)
        for k in range(COUNT):
            numbers = max(numbers, traced[k] + 1)
        count = (word(frame + AT.args_size) - numbers) // ARRAYS
        if numbers + ARRAYS * count != word(frame + AT.args_size) or len(ALIASES) * count != word(frame + AT.rets_size):
            return failure(frame, AT.internal, text(_ARRAYS), AT)
        rows = length(element(args, 0), AT) if numbers > 0 else np.int64(1)
        if rows == 0:
            return np.int64(0)
        for k in range(numbers):
            if length(element(args, k), AT) != rows:
                return failure(frame, AT.internal, text(_ARRAYS), AT)
        total = np.int64(0)
        for k in range(count):
            size = length(element(args, numbers + k), AT)
            fit = size % rows == 0
            for array in range(ARRAYS):
                buffer = element(args, numbers + array * count + k)
                fit &= length(buffer, AT) == size and half(buffer + AT.buffer_type) == DTYPE
            if not fit:
                return failure(frame, AT.internal, text(_ARRAYS), AT)
            for result in range(len(ALIASES)):
                place = word(element(args, numbers + ALIASES[result] * count + k) + AT.data)
                if size > 0 and word(element(rets, result * count + k) + AT.data) != place:
                    return failure(frame, AT.internal, text(_PLACE), AT)
            total += size // rows

        hyper = pointer_at(spill(NOTHING), np.float64)
        for row in range(rows - 1, -1, -1):  # the constants of row 0 are the last
            for k in range(COUNT):
                value = given[k] if traced[k] < 0 else number(element(args, traced[k]), row, AT)
                good = value >= LOW[k] and value < BELOW[k] and math.isfinite(T(value))
                if not good or (WHOLE[k] and value != math.floor(value)):
                    return failure(frame, AT.invalid_argument, shown(text(_HYPER + k), value), AT)
                hyper[k] = value
            scalars, decay = prepared(hyper)
            if not all_finite(scalars) or not math.isfinite(decay):
                return failure(frame, AT.invalid_argument, text(_TOGETHER), AT)
        shares = min(MOST_SHARES, total // SHARE) if total >= PARALLEL_FROM else np.int64(1)
        for row in range(rows):
            if row > 0:
                for k in range(COUNT):
                    hyper[k] = given[k] if traced[k] < 0 else number(element(args, traced[k]), row, AT)
                scalars, decay = prepared(hyper)
            context = spill((args, numbers, count, row, rows, total, shares, scalars, decay))
            if shares > 1:
                pooled(api, word(frame + AT.ctx), locate(), context, shares)
            else:
                call(context, 0)
        return np.int64(0)

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
    bound = handler.bind(
        prepared=subroutine(numbers),
        locate=share.locate,
        call=share.call,
        pooled=pool(at).call,
        text=texts(_messages(kind)),
        T=T,
        WHOLE=tuple(rule.range_of(x).whole for x in names),
        ARRAYS=kind.operands,
        ALIASES=kind.aliases,
        DTYPE=at.f32 if kind.dtype == np.float32 else at.f64,
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


def _messages(kind: Kind) -> list[str]:
    """The texts of the errors, in the order of their numbers."""
    name, dtype = kind.rule.name, kind.dtype.name
    wrong = f"nagd_numba, {name}: XLA calls it with"
    return [
        f"{wrong} a frame that is not of its version",
        f"{wrong} another stage than execution",
        f"{wrong} other arrays than it was compiled for",
        f"{wrong} results that are not in the memory of the operands",
        f"nagd_numba, {name}: the hyper-parameters together leave the range of {dtype}; smaller values are needed",
        *(f"nagd_numba, {name}: {x} is %.9g; {kind.rule.range_of(x)} is needed (in {dtype})" for x in kind.rule.hyper),
    ]
