"""The kernels of steps of rows of a matrix: a look at the rows, the step itself, and a note of what was done.

Arrays are those of `kernels.row_steps`; the rows ascend, which each thread can see by itself.  `table` is a history
(`capacity` above 0), or has the powers of one map.  The note is a launch of its own: until the step is done the threads
of a row all read its `last`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ..kernels.idle_steps import ENTRIES, RECORDED, START, Arithmetic, block, composed
from ..kernels.jit import inlined, plain
from ..kernels.row_steps import AHEAD, BEFORE, DESCENDING, OUTSIDE
from ..kernels.rule import Rule
from ..kernels.template import template
from .compiler import Kernel, device_function
from .pointer_tuples import load_strided, store_strided
from .pointers import load, store

THREADS = 128
HEADER = 3  # what a look writes first: the steps of the history, its start, whether it has the step with another map
COLUMNS = 5  # and then for each thread: the place of its first unfit row, why, that row, its `last`; the least `last`

_whole, _table = types.CPointer(types.int64), types.CPointer(types.float64)
_matrix = types.UniTuple(types.float64, ENTRIES)
_n = types.int64


@inlined
def whole_of(table, row):
    """A row of a table."""
    return load_strided(table, row * ENTRIES, 1, 8)


@inlined
def high_of(table, row):
    """The high parts of one."""
    return load_strided(table, row * ENTRIES, 1, 4)


@functools.cache
def arithmetic(exact: str) -> Arithmetic:
    """How arrays on a device make up for steps."""
    double = exact == "float64"
    return Arithmetic(double, lambda f: device_function(plain(f)), whole_of if double else high_of)


@functools.cache
def look_kernel() -> Kernel:
    """See `look`."""
    return Kernel(look.bind(), "rows_look", (_whole, _whole, _n, _n, _n, _n, _table, _n, _n, _matrix, _whole))


@template
def look():
    from .target import cuda

    def look(rows, last, n, everything, size, newest, table, capacity, t, matrix, out):
        """To `out`: what is wrong with rows, of `size` that there are, each done up to a step of at most `newest`."""
        thread, threads, start = np.int64(cuda.grid(1)), np.int64(cuda.gridsize(1)), np.int64(0)
        if capacity > 0:
            info = (2 * capacity - 1) * ENTRIES
            count, start = np.int64(load(table, info + RECORDED)), np.int64(load(table, info + START))
            step = t - start - 1
            if thread == 0:
                store(out, 0, count)
                store(out, 1, start)
                differs = 0
                if step >= 0 and step < min(count, capacity):
                    there = load_strided(table, step * ENTRIES, 1, 8)
                    for k in range(8):
                        differs |= there[k] != matrix[k]
                store(out, 2, np.int64(differs))
        at, why, which, found, least = np.int64(-1), np.int64(0), np.int64(0), np.int64(0), newest
        k = thread
        while k < n and at < 0:
            row = k if everything else load(rows, k)
            done = newest
            if row < 0 or row >= size:
                why = OUTSIDE
            elif not everything and k > 0 and load(rows, k - 1) >= row:
                why = DESCENDING
            else:
                done = load(last, row)
                if done > newest:
                    why = AHEAD
                elif done < start:
                    why = BEFORE
            if why != 0:
                at, which, found = k, row, done
            least = min(least, done)
            k += threads
        base = HEADER + thread * COLUMNS
        store(out, base, at)
        store(out, base + 1, why)
        store(out, base + 2, which)
        store(out, base + 3, found)
        store(out, base + 4, least)

    return look


@functools.cache
def step_kernel(rule: Rule, options: tuple[Any, ...], exact: str) -> Kernel:
    """See `step_elements`."""
    scalar, made = getattr(types, exact), arithmetic(exact)
    x, scalars = types.CPointer(scalar), types.UniTuple(scalar, rule.constant_count)
    function = step_elements.bind(update=rule.update, stretch=made.stretch, moved=made.moved, OPTIONS=options)
    signature = (x, _whole, x, x, _whole, _n, _n, _table, _n, _n, _n, scalars)
    return Kernel(function, f"{rule.kernel_name(options)}_rows_{exact}", signature)


@template
def step_elements(update, stretch, moved, OPTIONS):
    from .target import cuda

    def step_elements(params, rows, grads, vel, last, n, width, table, capacity, start, t, scalars):
        e, elements, threads = np.int64(cuda.grid(1)), n * width, np.int64(cuda.gridsize(1))
        while e < elements:
            row = load(rows, e // width)
            i, done = row * width + e % width, load(last, row)
            p, v = load(params, i), load(vel, i)
            if done < t - 1:
                p, v = moved(p, v, stretch(table, capacity, done - start, t - 1 - start))
            p, state = update(p, load(grads, e), (v,), scalars, OPTIONS)
            store(params, i, p)
            store(vel, i, state[0])
            e += threads

    return step_elements


@functools.cache
def finish_kernel(exact: str) -> Kernel:
    """See `finish_elements`."""
    made, x = arithmetic(exact), types.CPointer(getattr(types, exact))
    function = finish_elements.bind(stretch=made.stretch, moved=made.moved)
    return Kernel(function, f"rows_finish_{exact}", (x, _whole, x, _whole, _n, _n, _n, _table, _n, _n, _n))


@template
def finish_elements(stretch, moved):
    from .target import cuda

    def finish_elements(params, rows, vel, last, n, everything, width, table, capacity, start, t):
        e, elements, threads = np.int64(cuda.grid(1)), n * width, np.int64(cuda.gridsize(1))
        while e < elements:
            k = e // width
            row = k if everything else load(rows, k)
            i, done = row * width + e % width, load(last, row)
            if done < t:
                p, v = moved(load(params, i), load(vel, i), stretch(table, capacity, done - start, t - start))
                store(params, i, p)
                store(vel, i, v)
            e += threads

    return finish_elements


@functools.cache
def note_kernel() -> Kernel:
    """See `note`."""
    compose = device_function(plain(composed))
    return Kernel(note.bind(compose=compose), "rows_note", (_whole, _whole, _n, _n, _n, _table, _n, _n, _matrix))


@template
def note(compose):
    from .target import cuda

    def note(rows, last, n, everything, t, table, capacity, step, matrix):
        """The rows are done up to step `t`; where `step` is not negative that place of the history is written, too."""
        k, threads = np.int64(cuda.grid(1)), np.int64(cuda.gridsize(1))
        if k == 0 and step >= 0:
            count = step + 1
            store_strided(table, step * ENTRIES, 1, matrix)
            level = np.int64(0)
            while step & 1:
                base = block(capacity, level)
                later, earlier = whole_of(table, base + step), whole_of(table, base + step - 1)
                level += 1
                step >>= 1
                store_strided(table, (block(capacity, level) + step) * ENTRIES, 1, compose(later, earlier))
            store(table, (2 * capacity - 1) * ENTRIES + RECORDED, np.float64(count))
        while k < n:
            store(last, k if everything else load(rows, k), t)
            k += threads

    return note
