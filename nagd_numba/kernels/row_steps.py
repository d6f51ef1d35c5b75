"""Steps of a few rows of a matrix, which first make up for the steps that they were left out of.

    params, vel   (rows, width), contiguous, of one dtype
    rows          int64 (n,): distinct rows
    grads         (n, width): their gradients
    last          int64 (rows,): the number of the step up to which each row is done
    table         see `idle_steps`

A kernel returns a status and the place of the row that it tells of; anything but `OK` means that nothing was written.
Rows are shared out among threads whole, and each is worked on by itself: the bits do not depend on the shares.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import config, types

from .elementwise import HYPER, OK, OVERLAP, SHARES_PER_THREAD, acceptable, all_finite, limits
from .forms import run_shares
from .idle_steps import BASE, ENTRIES, RECORDED, START, Arithmetic, block, composed, high_of, whole_of
from .jit import inlined, kernel, subroutine
from .linking import Linked, linked
from .parallel import BODY
from .pointers import addresses, keep_alive, pointer, restorer, spill
from .prefetch import prefetch
from .rule import Rule
from .template import template

# What is wrong with a row, or with the number of the step; the others are those of `elementwise`.
OUTSIDE, TWICE, AHEAD, BEFORE, EARLY, UNRECORDED, FULL, DIFFERENT = range(10, 18)

SOON = 8  # rows ahead are asked for

compose: Any = subroutine(composed)

_settings: Any = config  # numba's types do not list its settings


@template
def share_of_step(restore, update, stretch, moved, OPTIONS):
    def share_of_step(context, share):
        params, rows, grads, vel, last, table, numbers, scalars = restore(context)
        n, width, shares, capacity, start, t = numbers
        length = (n + shares - 1) // shares
        known, matrix = t, stretch(table, 0, 0, 0)
        end = min(n, (share + 1) * length)
        for k in range(min(n, share * length), end):
            if k + SOON < end:
                soon = rows[k + SOON] * width
                prefetch(params, soon)
                prefetch(params, soon + width - 1)
                prefetch(vel, soon)
                prefetch(vel, soon + width - 1)
            row = rows[k]
            at, own, done = row * width, k * width, last[row]
            if done < t - 1:
                if done != known:
                    known, matrix = done, stretch(table, capacity, done - start, t - 1 - start)
                for i in range(width):
                    p, v = moved(params[at + i], vel[at + i], matrix)
                    params[at + i], state = update(p, grads[own + i], (v,), scalars, OPTIONS)
                    vel[at + i] = state[0]
            else:
                for i in range(width):
                    params[at + i], state = update(params[at + i], grads[own + i], (vel[at + i],), scalars, OPTIONS)
                    vel[at + i] = state[0]
            last[row] = t

    return share_of_step


@template
def share_of_finish(restore, stretch, moved):
    def share_of_finish(context, share):
        params, rows, vel, last, table, numbers = restore(context)
        n, width, shares, capacity, start, t, everything = numbers
        length = (n + shares - 1) // shares
        known, matrix = t, stretch(table, 0, 0, 0)
        for k in range(min(n, share * length), min(n, (share + 1) * length)):
            row = k if everything else rows[k]
            at, done = row * width, last[row]
            if done < t:
                if done != known:
                    known, matrix = done, stretch(table, capacity, done - start, t - start)
                for i in range(at, at + width):
                    params[i], vel[i] = moved(params[i], vel[i], matrix)
                last[row] = t

    return share_of_finish


@template
def by_forms(locate):
    def by_forms(context, shares, work, forms):
        run_shares(locate(), context, shares, work, forms)

    return by_forms


@template
def alone(body):
    def alone(context, shares, work, forms):
        body(context, 0)

    return alone


@template
def step_of_rows(run, constants, idle, OPTIONS, LOW, BELOW, SHARES):
    def step_of_rows(params, rows, grads, vel, last, t, history, hyper, forms):
        if not acceptable(hyper, LOW, BELOW):
            return HYPER, 0
        scalars = constants(hyper, params.dtype.type, OPTIONS)
        if not all_finite(scalars):
            return HYPER, 0
        if overlap((params, vel, last, history, grads, rows)):
            return OVERLAP, 0
        matrix = idle(scalars, OPTIONS)
        capacity, start = recorded_from(history)
        status = fit_to_record(history, t, matrix)
        if status != OK:
            return status, 0
        status, at, oldest = fit_rows(rows, last, False, start, t - 1)
        if status != OK:
            return status, at
        if capacity == 0:
            table = powers(matrix, t - 1 - oldest)
        else:
            table = history
            record(table, t - start - 1, matrix)
        n, width, shares = len(rows), params.shape[1], np.int64(SHARES if forms != 0 else 1)
        arrays = pointer(params), pointer(rows), pointer(grads), pointer(vel), pointer(last), pointer(table)
        run(spill((*arrays, (n, width, shares, capacity, start, t), scalars)), shares, n * width, forms)
        keep_alive(table)
        return OK, 0

    return step_of_rows


@template
def finish_of_rows(run, constants, idle, OPTIONS, LOW, BELOW, SHARES):
    def finish_of_rows(params, rows, everything, vel, last, t, history, hyper, forms):
        if not acceptable(hyper, LOW, BELOW):
            return HYPER, 0
        scalars = constants(hyper, params.dtype.type, OPTIONS)
        if not all_finite(scalars):
            return HYPER, 0
        if overlap((params, vel, last, history, rows, rows)):
            return OVERLAP, 0
        capacity, start = recorded_from(history)
        if capacity > 0 and t > start + recorded(history):
            return UNRECORDED, 0
        if t < start:
            return EARLY, 0
        status, at, oldest = fit_rows(rows, last, everything, start, t)
        if status != OK:
            return status, at
        table = history if capacity > 0 else powers(idle(scalars, OPTIONS), t - oldest)
        n = len(last) if everything else len(rows)
        width, shares = params.shape[1], np.int64(SHARES if forms != 0 else 1)
        arrays = pointer(params), pointer(rows), pointer(vel), pointer(last), pointer(table)
        numbers = n, width, shares, capacity, start, t, np.int64(everything)
        run(spill((*arrays, numbers)), shares, n * width, forms)
        keep_alive(table)
        return OK, 0

    return finish_of_rows


@inlined
def overlap(arrays):
    """Does one of the first four arrays, which are written, share memory with another?  All are contiguous."""
    params, vel, last, history, grads, rows = arrays
    starts = addresses(arrays)
    sizes = params.nbytes, vel.nbytes, last.nbytes, history.nbytes, grads.nbytes, rows.nbytes
    for i in range(4):
        for j in range(i + 1, 6):
            if starts[i] < starts[j] + sizes[j] and starts[j] < starts[i] + sizes[i] and sizes[i] > 0 and sizes[j] > 0:
                return True
    return False


@subroutine
def fit_rows(rows, last, everything, oldest, newest):
    """A status, the place of the row that it tells of, and the least of their `last`.

    Rows are distinct, and each is done up to a step from `oldest` to `newest`.
    """
    least, ascending, before = newest, True, np.int64(-1)
    for k in range(len(last) if everything else len(rows)):
        row = np.int64(k) if everything else np.int64(rows[k])
        if row < 0 or row >= len(last):
            return OUTSIDE, k, least
        done = last[row]
        if done > newest:
            return AHEAD, k, least
        if done < oldest:
            return BEFORE, k, least
        least = min(least, done)
        ascending &= row > before
        before = row
    at = -1 if ascending else first_repeated(rows)
    return (OK if at < 0 else TWICE), at, least


@subroutine
def first_repeated(rows):
    """The place of the first row that was there before, or -1: by a table of hashes, with linear probing."""
    bits = 2
    while (1 << bits) < 2 * len(rows):
        bits += 1
    places = np.full(1 << bits, -1, np.int64)
    for k in range(len(rows)):
        row = np.int64(rows[k])
        at = (((row ^ (row >> 32)) * 2654435761) & 0xFFFFFFFF) * (1 << bits) >> 32
        while places[at] >= 0:
            if places[at] == row:
                return k
            at = (at + 1) & ((1 << bits) - 1)
        places[at] = row
    return -1


@subroutine
def powers(matrix, most):
    """The table of the powers of a matrix for up to `most` equal steps."""
    levels = 1
    while most >= BASE:
        most //= BASE
        levels += 1
    table = np.empty((levels * BASE, ENTRIES), np.float64)
    for level in range(levels):
        made = 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0
        for k in range(BASE):
            put(table, level * BASE + k, made)
            made = compose(matrix, made)
        matrix = made
    return table


@subroutine
def record(table, step, matrix):
    """Write down a step, and the products that it completes, unless it is there."""
    capacity, count = len(table) // 2, recorded(table)
    if step < count:
        return
    level = 0
    put(table, step, matrix)
    while step & 1:
        base = block(capacity, level)
        level += 1
        made = compose(whole_of(pointer(table), base + step), whole_of(pointer(table), base + step - 1))
        step >>= 1
        put(table, block(capacity, level) + step, made)
    table[2 * capacity - 1, RECORDED] = count + 1


@inlined
def put(table, row, matrix):
    for k in range(ENTRIES):
        table[row, k] = matrix[k]


@inlined
def recorded(table):
    """How many steps are recorded."""
    return np.int64(table[len(table) - 1, RECORDED])


@inlined
def recorded_from(history):
    """The capacity of a table, and the number of the step before its first."""
    capacity = len(history) // 2
    start = np.int64(history[2 * capacity - 1, START]) if capacity > 0 else np.int64(0)
    return capacity, start


@subroutine
def fit_to_record(history, t, matrix):
    """Can step `t` be recorded, or is it?"""
    capacity, start = recorded_from(history)
    if capacity == 0:
        return OK
    step = t - start - 1
    if step < 0:
        return EARLY
    if step >= capacity:
        return FULL
    if step > recorded(history):
        return UNRECORDED
    if step < recorded(history):
        for k in range(ENTRIES):
            if history[step, k] != matrix[k]:
                return DIFFERENT
    return OK


@functools.cache
def arithmetic(dtype: types.Type) -> Arithmetic:
    """How arrays on the host make up for steps."""
    exact = dtype == types.float64
    return Arithmetic(exact, subroutine, whole_of if exact else high_of)


def _step_body(rule: Rule, options: tuple[Any, ...], dtype: types.Type) -> Any:
    x, whole = types.CPointer(dtype), types.CPointer(types.int64)
    scalars = types.UniTuple(dtype, rule.constant_count)
    numbers = types.UniTuple(types.int64, 6)
    context = types.Tuple([x, whole, x, x, whole, types.CPointer(types.float64), numbers, scalars])
    made = arithmetic(dtype)
    return share_of_step.bind(
        restore=restorer(context),
        update=rule.update_of(options),
        stretch=made.stretch,
        moved=made.moved,
        OPTIONS=options,
    )


def _finish_body(dtype: types.Type) -> Any:
    x, whole = types.CPointer(dtype), types.CPointer(types.int64)
    context = types.Tuple([x, whole, x, whole, types.CPointer(types.float64), types.UniTuple(types.int64, 7)])
    made = arithmetic(dtype)
    return share_of_finish.bind(restore=restorer(context), stretch=made.stretch, moved=made.moved)


@functools.cache
def linked_step(rule: Rule, options: tuple[Any, ...], dtype: types.Type) -> Linked:
    """`share_of_step`, compiled by itself."""
    return linked(_step_body(rule, options, dtype), BODY)


@functools.cache
def linked_finish(dtype: types.Type) -> Linked:
    """`share_of_finish`, compiled by itself."""
    return linked(_finish_body(dtype), BODY)


def _slots(rule: Rule, idle: Any, options: tuple[Any, ...]) -> dict[str, Any]:
    shares = SHARES_PER_THREAD * int(_settings.NUMBA_NUM_THREADS)
    return {"constants": rule.constants, "idle": subroutine(idle), "OPTIONS": options, "SHARES": shares, **limits(rule)}


def _arrays(dtype: types.Type, rule: Rule) -> tuple[Any, ...]:
    x, rows = types.Array(dtype, 2, "C"), types.Array(types.int64, 1, "C", readonly=True)
    fixed, history = types.Array(dtype, 2, "C", readonly=True), types.Array(types.float64, 2, "C")
    hyper = types.UniTuple(types.float64, len(rule.hyper))
    return x, rows, fixed, types.Array(types.int64, 1, "C"), history, hyper


@functools.cache
def step_kernel(rule: Rule, idle: Any, options: tuple[Any, ...], dtype: types.Type) -> Any:
    """`kernel(params, rows, grads, vel, last, t, history, hyper, forms) -> (status, place)`."""
    x, rows, fixed, last, history, hyper = _arrays(dtype, rule)
    result = types.UniTuple(types.int64, 2)
    run = subroutine(by_forms.bind(locate=linked_step(rule, options, dtype).locate))
    bound = step_of_rows.bind(run=run, **_slots(rule, idle, options))
    return kernel(bound, result(x, rows, fixed, x, last, types.int64, history, hyper, types.int64))


@functools.cache
def finish_kernel(rule: Rule, idle: Any, options: tuple[Any, ...], dtype: types.Type) -> Any:
    """`kernel(params, rows, everything, vel, last, t, history, hyper, forms) -> (status, place)`."""
    x, rows, _, last, history, hyper = _arrays(dtype, rule)
    result = types.UniTuple(types.int64, 2)
    run = subroutine(by_forms.bind(locate=linked_finish(dtype).locate))
    bound = finish_of_rows.bind(run=run, **_slots(rule, idle, options))
    return kernel(bound, result(x, rows, types.boolean, x, last, types.int64, history, hyper, types.int64))


@functools.cache
def step_for_callers(rule: Rule, idle: Any, options: tuple[Any, ...], dtype: types.Type) -> Any:
    """The step for users' compiled code, which it is compiled into: serial."""
    run = subroutine(alone.bind(body=subroutine(_step_body(rule, options, dtype))))
    return subroutine(step_of_rows.bind(run=run, **_slots(rule, idle, options)))


@functools.cache
def finish_for_callers(rule: Rule, idle: Any, options: tuple[Any, ...], dtype: types.Type) -> Any:
    """The same of `finish_kernel`."""
    run = subroutine(alone.bind(body=subroutine(_finish_body(dtype))))
    return subroutine(finish_of_rows.bind(run=run, **_slots(rule, idle, options)))
