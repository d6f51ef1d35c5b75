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

from .elementwise import SHARES_PER_THREAD, acceptable, all_finite, limits
from .forms import run_shares
from .idle_steps import BASE, ENTRIES, RECORDED, START, Arithmetic, block, composed, high_of, whole_of
from .jit import in_both, inlined, kernel, plain, subroutine
from .linking import Linked, linked
from .parallel import BODY
from .pointers import addresses, keep_alive, peek, pointer, poke, restorer, spill
from .prefetch import prefetch
from .rule import Rule
from .statuses import HYPER, OK, OVERLAP
from .template import template

# What is wrong with a row, or with the number of the step; the others are those of `elementwise`.
OUTSIDE, TWICE, DESCENDING, AHEAD, BEFORE, EARLY, UNRECORDED, FULL, DIFFERENT = range(10, 19)

SOON = 16  # rows ahead are asked for
FETCHED = 4096  # rows, which find room in the second cache while they are looked at

compose: Any = subroutine(composed)

_settings: Any = config  # numba's types do not list its settings


@template
def share_of_step(restore, update, stretch, moved, OPTIONS):
    def share_of_step(context, share):
        params, rows, grads, vel, last, table, numbers, scalars = restore(context)
        n, width, shares, capacity, start, t, _ = numbers
        length = (n + shares - 1) // shares
        known, matrix = t, stretch(table, 0, 0, 0)
        end = min(n, (share + 1) * length)
        for k in range(min(n, share * length), end):
            if k + SOON < end:
                ask_for(params, vel, rows[k + SOON] * width, width)
            row = rows[k]
            at, own, done = row * width, k * width, last[row]
            if done < t - 1:
                if done != known:
                    known, matrix = done, stretch(table, capacity, done - start, t - 1 - start)
                for i in range(width):
                    p, v = moved(peek(params, at + i, 0), peek(vel, at + i, 1), matrix)
                    p, state = update(p, peek(grads, own + i, 2), (v,), scalars, OPTIONS)
                    poke(params, at + i, p, 0)
                    poke(vel, at + i, state[0], 1)
            else:
                for i in range(width):
                    v = peek(vel, at + i, 1)
                    p, state = update(peek(params, at + i, 0), peek(grads, own + i, 2), (v,), scalars, OPTIONS)
                    poke(params, at + i, p, 0)
                    poke(vel, at + i, state[0], 1)
            last[row] = t

    return share_of_step


@template
def share_of_finish(restore, stretch, moved):
    def share_of_finish(context, share):
        params, rows, _, vel, last, table, numbers, _ = restore(context)
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
                    p, v = moved(peek(params, i, 0), peek(vel, i, 1), matrix)
                    poke(params, i, p, 0)
                    poke(vel, i, v, 1)
                last[row] = t

    return share_of_finish


@template
def rows_of_matrix(run, SHARES):
    """A step (`steps`), or without one what is to be made up for, of the `rows`, or of `everything`.

    `scalars` are the constants of the rule, `matrix` is the map of the step where there is no gradient, `body` is the
    address of the loop.
    """

    def rows_of_matrix(params, rows, everything, grads, steps, vel, last, t, history, scalars, matrix, body, forms):
        if overlap((params, vel, last, history, grads, rows)):
            return OVERLAP, 0
        capacity, start = len(history) // 2, np.int64(0)
        if capacity > 0:
            start = np.int64(history[2 * capacity - 1, START])
            status = fit_to_history(history, t, start, steps, matrix)
            if status != OK:
                return status, 0
        before = t - 1 if steps else t
        width = params.shape[1]
        status, at, oldest = fit_rows(rows, last, everything, start, before, pointer(params), pointer(vel), width)
        if status != OK:
            return status, at
        table = history if capacity > 0 else powers(matrix, before - oldest)
        if capacity > 0 and steps:
            record(history, t - start - 1, matrix)
        n = len(last) if everything else len(rows)
        shares = np.int64(SHARES if forms != 0 else 1)
        arrays = pointer(params), pointer(rows), pointer(grads), pointer(vel), pointer(last), pointer(table)
        numbers = n, width, shares, capacity, start, t, np.int64(everything)
        run(body, spill((*arrays, numbers, scalars)), shares, n * width, forms)
        keep_alive(table)
        return OK, 0

    return rows_of_matrix


@template
def alone(loop):
    """One body for all rows, whatever the address."""

    def alone(body, context, shares, work, forms):
        loop(context, 0)

    return alone


@template
def checked_rows(rows_of_matrix, constants, idle, OPTIONS, LOW, BELOW):
    """The same by the hyper-parameters."""

    def checked_rows(params, rows, everything, grads, steps, vel, last, t, history, hyper):
        if not acceptable(hyper, LOW, BELOW):
            return HYPER
        scalars = constants(hyper, params.dtype.type, OPTIONS)
        if not all_finite(scalars):
            return HYPER
        made = idle(scalars, OPTIONS)
        return rows_of_matrix(params, rows, everything, grads, steps, vel, last, t, history, scalars, made, 0, 0)[0]

    return checked_rows


@inlined
def ask_for(params, vel, at, width):
    """Fetch the ends of a row: in between the processor sees that memory is gone through."""
    prefetch(params, at)
    prefetch(params, at + width - 1)
    prefetch(vel, at)
    prefetch(vel, at + width - 1)


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
def fit_rows(rows, last, everything, oldest, newest, params, vel, width):
    """A status, the place of the row that it tells of, and the least of their `last`.

    Rows are distinct, and each is done up to a step from `oldest` to `newest`.  Meanwhile they are fetched.
    """
    least, ascending, before = newest, True, np.int64(-1)
    for k in range(len(last) if everything else len(rows)):
        row = np.int64(k) if everything else np.int64(rows[k])
        if row < 0 or row >= len(last):
            return OUTSIDE, k, least
        if k < FETCHED and not everything:
            ask_for(params, vel, row * width, width)
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


@subroutine
def fit_to_history(history, t, start, steps, matrix):
    """A status of `of_history`."""
    capacity, count, step = len(history) // 2, recorded(history), t - start - 1
    differs = False
    if step >= 0 and step < min(count, capacity):
        for k in range(ENTRIES):
            differs |= history[step, k] != matrix[k]
    return of_history(capacity, count, step, steps, differs)


@in_both
def of_history(capacity, count, step, steps, differs):
    """Can the step at this place of a history be recorded, or is it, with the same map?  Without `steps`: is it?"""
    if step < (0 if steps else -1):
        return EARLY
    if steps and step >= capacity:
        return FULL
    if step > count or (step == count and not steps):
        return UNRECORDED
    return DIFFERENT if steps and differs else OK


@functools.cache
def arithmetic(dtype: types.Type) -> Arithmetic:
    """How arrays on the host make up for steps."""
    exact = dtype == types.float64
    return Arithmetic(exact, subroutine, whole_of if exact else high_of)


def _context(rule: Rule, dtype: types.Type) -> types.Tuple:
    x, whole = types.CPointer(dtype), types.CPointer(types.int64)
    numbers, scalars = types.UniTuple(types.int64, 7), types.UniTuple(dtype, rule.constant_count)
    return types.Tuple([x, whole, x, x, whole, types.CPointer(types.float64), numbers, scalars])


def _step_body(rule: Rule, options: tuple[Any, ...], dtype: types.Type) -> Any:
    made = arithmetic(dtype)
    return share_of_step.bind(
        restore=restorer(_context(rule, dtype)),
        update=rule.update_of(options),
        stretch=made.stretch,
        moved=made.moved,
        OPTIONS=options,
    )


def _finish_body(rule: Rule, dtype: types.Type) -> Any:
    made = arithmetic(dtype)
    return share_of_finish.bind(restore=restorer(_context(rule, dtype)), stretch=made.stretch, moved=made.moved)


@functools.cache
def linked_step(rule: Rule, options: tuple[Any, ...], dtype: types.Type) -> Linked:
    """The loop over rows that have a gradient, compiled by itself."""
    return linked(_step_body(rule, options, dtype), BODY)


@functools.cache
def linked_finish(rule: Rule, dtype: types.Type) -> Linked:
    """The loop over rows that have none."""
    return linked(_finish_body(rule, dtype), BODY)


@functools.cache
def rows_kernel(rule: Rule, dtype: types.Type) -> Any:
    """`rows_of_matrix` for any options and for both loops."""
    x, fixed = types.Array(dtype, 2, "C"), types.Array(dtype, 2, "C", readonly=True)
    rows, last = types.Array(types.int64, 1, "C", readonly=True), types.Array(types.int64, 1, "C")
    history, scalars = types.Array(types.float64, 2, "C"), types.UniTuple(dtype, rule.constant_count)
    whole, matrix = types.int64, types.UniTuple(types.float64, ENTRIES)
    signature = types.UniTuple(whole, 2)(
        *(x, rows, types.boolean, fixed, types.boolean, x, last, whole, history, scalars, matrix, whole, whole)
    )
    shares = SHARES_PER_THREAD * int(_settings.NUMBA_NUM_THREADS)
    return kernel(rows_of_matrix.bind(run=run_shares, SHARES=shares), signature)


@functools.cache
def powers_kernel() -> Any:
    """`powers(matrix, most)`."""
    matrix = types.UniTuple(types.float64, ENTRIES)
    return kernel(plain(powers), types.Array(types.float64, 2, "C")(matrix, types.int64))


@functools.cache
def idle_kernel(idle: Any, rule: Rule, dtype: types.Type) -> Any:
    """`idle(constants, options)`, for options that are known when it runs."""
    options = types.Tuple([types.int64, types.boolean, types.int64, types.boolean])
    scalars = types.UniTuple(dtype, rule.constant_count)
    return kernel(plain(idle), types.UniTuple(types.float64, ENTRIES)(scalars, options))


@functools.cache
def rows_for_callers(rule: Rule, idle: Any, options: tuple[Any, ...], dtype: types.Type, steps: bool) -> Any:
    """`checked_rows` for users' compiled code, which it is compiled into: serial."""
    body = subroutine(_step_body(rule, options, dtype) if steps else _finish_body(rule, dtype))
    run = subroutine(alone.bind(loop=body))
    bound = checked_rows.bind(
        rows_of_matrix=subroutine(rows_of_matrix.bind(run=run, SHARES=1)),
        constants=rule.constants,
        idle=subroutine(idle),
        OPTIONS=options,
        **limits(rule),
    )
    return subroutine(bound)
