"""Everything that is checked of a call before a handler writes: the same for all handlers, and compiled once.

    opening(frame, about, state)     checks the frame and its arrays, and writes down what it found
    numbers(about, state, row, to)   the hyper-parameters of one row, in their ranges

Both return an error of XLA; 0 where all is well, `DONE` where there is nothing to do.  `about` and `state` are
addresses of int64.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numba import types

from ..jit import inlined
from ..linking import Interface, Linked, linked
from ..pointers import pointer_at
from ..template import template
from .frame import MESSAGE, Offsets, answer_metadata, element, failure, half, length, shown, word

DONE = 1  # no address of an error
# What is told about a handler: how many hyper-parameters it has; the arrays that go in and come out for each parameter;
# which of those that go in the first and the second that come out are in (the others follow); their type; the addresses
# of its messages and of the bounds of the hyper-parameters.
HYPER, OPERANDS, RESULTS, ALIAS, NEXT_ALIAS, TYPE, TEXTS, LOW, BELOW, WHOLE = range(10)
# What is found out: where the operands and the hyper-parameters are; how many numbers are operands; how many arrays of
# each kind; rows; elements of a row.
ARGS, GIVEN, TRACED, NUMBERS, COUNT, ROWS, TOTAL = range(7)
FRAME_ERROR, STAGE_ERROR, ARRAYS_ERROR, PLACE_ERROR, TOGETHER_ERROR, HYPER_ERROR = range(6)

OPENING = Interface(types.int64(types.int64, types.int64, types.int64))
CHECKED_NUMBERS = Interface(types.int64(*5 * [types.int64]))
FAILED = Interface(types.int64(*4 * [types.int64]))


def texts_of(rule: str, dtype: str, ranges: Sequence[tuple[str, str]]) -> list[str]:
    """The messages, in the order of the errors; `ranges` says what each hyper-parameter must be."""
    wrong = f"nagd_numba, {rule}: XLA calls it with"
    return [
        f"{wrong} a frame that is not of its version",
        f"{wrong} another stage than execution",
        f"{wrong} other arrays than it was compiled for",
        f"{wrong} results that are not in the memory of the operands",
        f"nagd_numba, {rule}: the hyper-parameters together leave the range of {dtype}; smaller values are needed",
        *(f"nagd_numba, {rule}: {name} is %.9g; {needed} is needed (in {dtype})" for name, needed in ranges),
    ]


@template
def _opening(failed, AT):
    def opening(frame, about, state):
        tell, found = pointer_at(about, np.int64), pointer_at(state, np.int64)
        if answer_metadata(frame, AT):
            return DONE
        api = word(frame + AT.api)
        if word(frame) < AT.frame_size or word(api) < AT.api_size or word(frame + AT.attrs_size) != 2:
            return failed(frame, about, FRAME_ERROR, AT.internal)
        if half(frame + AT.stage) != AT.execute:
            return failed(frame, about, STAGE_ERROR, AT.internal)
        args, rets, attrs = word(frame + AT.args), word(frame + AT.rets), word(frame + AT.attrs)
        for k in range(2):
            if word(element(attrs, k) + AT.array_size) != tell[HYPER]:
                return failed(frame, about, FRAME_ERROR, AT.internal)
        given, traced = word(element(attrs, 0) + AT.array_data), word(element(attrs, 1) + AT.array_data)
        numbers = np.int64(0)
        for k in range(tell[HYPER]):
            numbers = max(numbers, element(traced, k) + 1)
        arrays = word(frame + AT.args_size) - numbers
        count = arrays // tell[OPERANDS]
        if arrays < 0 or tell[OPERANDS] * count != arrays or tell[RESULTS] * count != word(frame + AT.rets_size):
            return failed(frame, about, ARRAYS_ERROR, AT.internal)
        rows = length(element(args, 0), AT) if numbers > 0 else np.int64(1)
        if rows == 0:
            return DONE
        fit = True
        for k in range(numbers):
            fit &= length(element(args, k), AT) == rows
        total = np.int64(0)
        for k in range(count):
            size = length(element(args, numbers + k), AT)
            fit &= size % rows == 0
            for operand in range(tell[OPERANDS]):
                buffer = element(args, numbers + operand * count + k)
                fit &= length(buffer, AT) == size and half(buffer + AT.buffer_type) == tell[TYPE]
            total += size // rows
        if not fit:
            return failed(frame, about, ARRAYS_ERROR, AT.internal)
        for result in range(tell[RESULTS]):
            operand = tell[NEXT_ALIAS] + result - 1 if result > 0 else tell[ALIAS]
            for k in range(count):
                buffer = element(args, numbers + operand * count + k)
                place = word(element(rets, result * count + k) + AT.data)
                if place != word(buffer + AT.data) and length(buffer, AT) > 0:
                    return failed(frame, about, PLACE_ERROR, AT.internal)
        found[ARGS] = args
        found[GIVEN] = given
        found[TRACED] = traced
        found[NUMBERS] = numbers
        found[COUNT] = count
        found[ROWS] = rows
        found[TOTAL] = total
        return 0

    return opening


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
def _numbers(AT):
    def numbers(frame, about, state, row, to):
        tell, found = pointer_at(about, np.int64), pointer_at(state, np.int64)
        given, hyper = pointer_at(found[GIVEN], np.float64), pointer_at(to, np.float64)
        low, below = pointer_at(tell[LOW], np.float64), pointer_at(tell[BELOW], np.float64)
        for k in range(tell[HYPER]):
            which = element(found[TRACED], k)
            value = given[k] if which < 0 else number(element(found[ARGS], which), row, AT)
            finite = math.isfinite(np.float32(value)) if tell[TYPE] == AT.f32 else math.isfinite(value)
            whole = element(tell[WHOLE], k) == 0 or value == math.floor(value)
            if not (value >= low[k] and value < below[k] and finite and whole):
                text = shown(tell[TEXTS] + MESSAGE * (HYPER_ERROR + k), value)
                return failure(frame, AT.invalid_argument, text, AT)
            hyper[k] = value
        return 0

    return numbers


@template
def _failed(AT):
    def failed(frame, about, error, code):
        return failure(frame, code, pointer_at(about, np.int64)[TEXTS] + MESSAGE * error, AT)

    return failed


@functools.cache
def opening(at: Offsets) -> Linked:
    return linked(_opening.bind(failed=failed(at).call, AT=at), OPENING)


@functools.cache
def numbers(at: Offsets) -> Linked:
    return linked(_numbers.bind(AT=at), CHECKED_NUMBERS)


@functools.cache
def failed(at: Offsets) -> Linked:
    """`failed(frame, about, error, code)`: an error of XLA with one of the handler's messages."""
    return linked(_failed.bind(AT=at), FAILED)
