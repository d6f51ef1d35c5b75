"""The kernels that apply an update rule to device arrays: one array, or a list of them in one launch.

Elements move 16 bytes at a time where the arrays allow it: `head` elements up to the first address that is a multiple
of 16 in all of them, groups of WIDTH, and a rest, each element by itself.  The rule does not know the difference, so
the bits do not depend on it.

Parameters and gradients may be half precision in memory (`half.STORAGE`).  With MASTER there is a float32 copy of
the parameters, which is what is updated; the parameters are that copy, rounded.

The arrays beside them are the states, which are written, then those that a rule only reads (`Rule.inputs`), then the
bytes of its mask: where one is 0 the rule is not asked and nothing is written, and groups of which all are 0 are not
read either.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ..kernels.half import STORAGE
from ..kernels.overlap import MASKS
from ..kernels.rule import Rule
from ..kernels.template import template
from .compiler import Kernel, device_function
from .pointer_tuples import (
    fetch_each,
    first_of,
    load_each,
    load_strided,
    pick_each,
    place_each,
    pointers_at,
    put_each,
    store_each,
)
from .pointers import ITEM_BYTES, WIDE, fetch, load, marks_at, pointer_at, put, store

THREADS = 256
CHUNK = 1 << 14  # elements that one block of the kernel for lists takes at a time
COLUMNS = 2  # of the table of the kernel for lists, beside the addresses: elements, head


def wide_width(storage: str) -> int:
    """Elements that move together: 16 bytes of the parameters."""
    return WIDE // ITEM_BYTES[storage]


@functools.cache
def kernel(
    rule: Rule, options: tuple[Any, ...], storage: str, master: bool, lists: bool, in_memory: bool = False
) -> Kernel:
    """The kernel of a rule; `storage` is the dtype of parameters and gradients in memory.

    With `in_memory` the last argument is the address of what `hyper_kernels` makes, in place of the constants.
    """
    scalar = types.float64 if storage == "float64" else types.float32
    stored, exact = types.CPointer(STORAGE[storage]), types.CPointer(scalar)
    read, width = len(rule.states) + len(rule.inputs), wide_width(storage)
    beside: Any = types.UniTuple(exact, read)
    if rule.mask:
        beside = types.Tuple([*beside, types.CPointer(MASKS[rule.mask])])
    number = types.float64 if rule.exact else scalar
    constants = types.CPointer(number) if in_memory else types.UniTuple(number, rule.constant_count)
    span = device_function(
        span_loop.bind(
            update=rule.update,
            OPTIONS=options,
            STATES=len(rule.states),
            READ=read,
            WIDTH=width,
            SCALAR=scalar,
            MASTER=master,
            PLAIN=not rule.mask,
        )
    )
    if in_memory:
        span = device_function(span_if_wanted.bind(span=span, CONSTANTS=rule.constant_count))
    if lists:
        function = many_arrays.bind(span=span)
        signature: tuple[Any, ...] = (types.CPointer(types.int64), types.int64, stored, beside, exact, constants)
    else:
        function = one_array.bind(span=span)
        signature = (stored, stored, beside, exact, types.int64, types.int64, constants)
    kind = f"{'lists' if lists else 'one'}_{storage}{'_master' if master else ''}{'_memory' if in_memory else ''}"
    return Kernel(function, f"{rule.kernel_name(options)}_{kind}", signature, users=rule.of_users)


@template
def one_array(span):
    from .target import cuda

    def one_array(params, grads, states, master, size, head, scalars):
        """Arrays of `size` elements."""
        span(params, grads, states, master, size, head, cuda.grid(1), cuda.gridsize(1), scalars)

    return one_array


@template
def many_arrays(span):
    from .target import cuda

    def many_arrays(table, rows, like_params, like_states, like_master, scalars):
        """A row of the table for each chunk: elements, head, then the addresses of params, grads, states and master.

        The pointers among the arguments only tell their types.
        """
        for row in range(cuda.blockIdx.x, rows, cuda.gridDim.x):
            at = row * (COLUMNS + 3 + len(like_states))
            size, head = load(table, at), load(table, at + 1)
            params = pointer_at(load(table, at + 2), like_params)
            grads = pointer_at(load(table, at + 3), like_params)
            states = pointers_at(table, at + 4, like_states)
            master = pointer_at(load(table, at + 4 + len(like_states)), like_master)
            span(params, grads, states, master, size, head, cuda.threadIdx.x, cuda.blockDim.x, scalars)

    return many_arrays


@template
def span_if_wanted(span, CONSTANTS):
    def span_if_wanted(params, grads, states, master, size, head, thread, threads, prepared):
        """`span` with constants from memory, unless it is written before them that there is no step."""
        if load(prepared, 0) != 0:
            span(params, grads, states, master, size, head, thread, threads, load_strided(prepared, 1, 1, CONSTANTS))

    return span_if_wanted


@template
def span_loop(update, OPTIONS, STATES, READ, WIDTH, SCALAR, MASTER, PLAIN):
    from .target import cuda

    ITEMS = max(1, READ * WIDTH)
    TOGETHER = min(WIDTH, 4)
    MASK, ALL = not PLAIN, (1 << WIDTH) - 1

    def span_loop(params, grads, beside, master, size, head, thread, threads, scalars):
        """Every `threads`-th group from `thread` on, and the same of the elements that are in no group."""
        p, g = cuda.local.array(WIDTH, SCALAR), cuda.local.array(WIDTH, SCALAR)
        s = cuda.local.array(ITEMS, SCALAR)
        states, written = first_of(beside, READ), first_of(beside, STATES)
        groups = (size - head) // WIDTH
        # Loops with `while`: the length of a range would be a division, and NVVM's copies of the loop cost registers.
        # What is asked of PLAIN and MASK is decided before types are: kernels without a mask have nothing of it.
        group = np.int64(thread)
        while group < groups:
            at = head + group * WIDTH
            if MASK:
                marks = marks_at(beside[-1], at, WIDTH)
                if marks == 0:
                    group += threads
                    continue
            if MASTER:
                fetch(master, at, p, 0, WIDTH)
            else:
                fetch(params, at, p, 0, WIDTH)
            fetch(grads, at, g, 0, WIDTH)
            fetch_each(states, at, s, WIDTH)
            for e in range(WIDTH):
                if PLAIN or marks >> e & 1 != 0:
                    p[e], state = update(p[e], g[e], pick_each(s, e, WIDTH, READ), scalars, OPTIONS)
                    place_each(s, e, WIDTH, state)
            if PLAIN or marks == ALL:
                put(params, at, p, 0, WIDTH)
                if MASTER:
                    put(master, at, p, 0, WIDTH)
                put_each(written, at, s, WIDTH)
            else:
                for e in range(WIDTH):
                    if marks >> e & 1 != 0:
                        store(params, at + e, p[e])
                        if MASTER:
                            store(master, at + e, p[e])
                        store_each(written, at + e, pick_each(s, e, WIDTH, STATES))
            group += threads
        # Arrays whose addresses differ modulo 16 bytes are nothing but rest: TOGETHER elements are on the way at once.
        beyond, rest, k = groups * WIDTH, size - groups * WIDTH, np.int64(thread)
        while k + (TOGETHER - 1) * threads < rest:
            if MASK:
                marks = np.int64(0)
            for e in range(TOGETHER):
                j = k + e * threads
                i = j if j < head else j + beyond
                p[e] = load(master, i) if MASTER else load(params, i)
                g[e] = load(grads, i)
                place_each(s, e, WIDTH, load_each(states, i))
                if MASK:
                    marks |= marks_at(beside[-1], i, 1) << e
            for e in range(TOGETHER):
                if PLAIN or marks >> e & 1 != 0:
                    p[e], state = update(p[e], g[e], pick_each(s, e, WIDTH, READ), scalars, OPTIONS)
                    place_each(s, e, WIDTH, state)
            for e in range(TOGETHER):
                j = k + e * threads
                i = j if j < head else j + beyond
                if PLAIN or marks >> e & 1 != 0:
                    store(params, i, p[e])
                    if MASTER:
                        store(master, i, p[e])
                    store_each(written, i, pick_each(s, e, WIDTH, STATES))
            k += TOGETHER * threads
        while k < rest:
            i = k if k < head else k + beyond
            if PLAIN or marks_at(beside[-1], i, 1) != 0:
                before = load(master, i) if MASTER else load(params, i)
                after, state = update(before, load(grads, i), load_each(states, i), scalars, OPTIONS)
                store(params, i, after)
                if MASTER:
                    store(master, i, after)
                store_each(written, i, state)
            k += threads

    return span_loop
