"""Serial or parallel: which form of a kernel takes a call, by what calls like it took before.

On an idle machine a long vector is worked on by all threads in half the time.  Where other processes hold the cores,
the threads of a parallel loop wait for each other, and a call that takes 0.03 ms takes 7.  So calls are timed, apart
for each kernel and each power of two of its length:

- the mean of the last `MEMORY` calls of each form decides: a mean, since it is rare long waits that cost;
- the other form is tried again once calls have earned it: what a trial loses beside the better form is a debt, of which
  each later call pays the part `SHARE` of its time.  So trials cost about 1 %, on an idle machine as on a loaded one.

`run_shares` does this around the body of a loop (`parallel.BODY`), `Forms.timed` around a call from Python.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import threading_layer
from .jit import JIT_OFF, inlined, plain
from .linking import Interface, Linked, linked
from .parallel import BODY, PARALLEL_FOR, parallel_for
from .pointers import pointer_at
from .template import template

SERIAL, PARALLEL = 0, 1

PARALLEL_FROM = 40_000  # elements of a vector from which two threads beat one (benchmarks/crossover.py measures it)

MEMORY = 256  # calls
FIRST = 4  # calls of each form before the means say something; the first of them, which starts threads, says nothing
SHARE = 0.01
SPACING = 4  # calls from one trial to the next, at least
LONG = 5e7  # ns of the serial form: threads take calls that are so long, beside which a wait for a core is nothing

# What is kept for a class of lengths: the mean time of each form, in ns, and its calls; the debt; calls since a trial.
_CALLS, _DEBT, _SINCE = 2, 4, 5
_CELL = 8
_CLASSES = 64

# The words of a record, before its cells.
_THREADS, _CLOCK, _CLOCK_ID, _CELLS = range(4)

# Of the process: the addresses of the parallel loop, 0 where it may not run, and of `run`.
_LOOP, _RUN = range(2)
_NOT_ASKED = -1
_threads = np.array([_NOT_ASKED, 0])

_word = types.int64
RUN = Interface(types.void(_word, _word, _word, _word, _word))  # body, context, shares, length, forms
RUN_CALL, BODY_CALL = RUN.call, BODY.call


class Forms:
    """What the calls of one kernel took.  Not `measured`, the parallel form takes every call where it may run."""

    def __init__(self, measured: bool = True) -> None:
        self._from = PARALLEL_FROM if measured else 0
        self._record = np.zeros(_CELLS + _CLASSES * _CELL, np.int64)
        self._record[:_CELLS] = _threads.ctypes.data, *(_clock() if measured else (0, 0))
        self.address = int(self._record.ctypes.data)  # for `run_shares`, as long as this is kept

    def of(self, length: int) -> int:
        """What `run_shares` is given for a vector of this length: 0 where the serial form takes it anyway."""
        return self.address if length >= self._from and threads_may_run() else 0

    @contextmanager
    def timed(self, length: int) -> Iterator[bool]:
        """Is the parallel form to take this call?  The block is the call, of a kernel that Python chooses."""
        if not threads_may_run():
            yield False
            return
        cells = self._record[_CELLS:].view(np.float64).reshape(_CLASSES, _CELL)
        cell = cells[plain(class_of)(length)]
        form = plain(chosen)(cell)
        begin = time.perf_counter()
        yield form == PARALLEL
        plain(noted)(cell, form, 1e9 * (time.perf_counter() - begin))


ALWAYS_PARALLEL = Forms(measured=False)


def threads_may_run() -> bool:
    """May parallel kernels run, here and now?  `run_shares` goes by what was found here last."""
    allowed = not JIT_OFF and threading_layer.parallel_allowed()
    _threads[_LOOP] = parallel_for().address if allowed else 0
    _threads[_RUN] = run().address if allowed else 0
    return allowed


def _forget() -> None:
    _threads[_LOOP] = _NOT_ASKED


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@inlined
def asked(forms):
    """Has `threads_may_run` been asked in this process?"""
    return pointer_at(pointer_at(forms, np.int64)[_THREADS], np.int64)[_LOOP] != _NOT_ASKED


@inlined
def run_shares(function, context, shares, length, forms):
    """The body at an address (a `parallel.BODY`), for each share, in the form that takes a call of this length.

    `forms` is the address of a record of `Forms`, or 0 for the serial form.
    """
    run_at = pointer_at(pointer_at(forms, np.int64)[_THREADS], np.int64)[_RUN] if forms != 0 else 0
    if run_at == 0:
        for share in range(shares):
            BODY_CALL(function, context, share)
    else:
        RUN_CALL(run_at, function, context, shares, length, forms)


@inlined
def class_of(length):
    """The class of a length: how many bits it has."""
    bits = 0
    while length > 0 and bits < _CLASSES - 1:
        length >>= 1
        bits += 1
    return bits


@inlined
def chosen(cell):
    """The form that takes the next call."""
    serial, parallel = cell[_CALLS + SERIAL], cell[_CALLS + PARALLEL]
    if cell[SERIAL] >= LONG:
        return PARALLEL
    if serial < FIRST or parallel < FIRST:
        return PARALLEL if parallel <= serial else SERIAL
    best = PARALLEL if cell[PARALLEL] < cell[SERIAL] else SERIAL
    cell[_SINCE] += 1.0
    if cell[_SINCE] >= SPACING and cell[_DEBT] <= 0.0:
        cell[_SINCE] = 0.0
        return 1 - best
    return best


@inlined
def noted(cell, form, took):
    """A call of a form took so many ns."""
    calls = cell[_CALLS + form] + 1.0
    cell[_CALLS + form] = calls
    other = 1 - form
    if cell[_CALLS + other] >= FIRST and calls > FIRST:
        if cell[form] <= cell[other]:
            cell[_DEBT] = max(0.0, cell[_DEBT] - SHARE * took)
        else:
            cell[_DEBT] += max(0.0, took - cell[other])
    weight = 1.0 / min(max(calls - 1.0, 1.0), MEMORY)
    cell[form] += (took - cell[form]) * weight


def _clock() -> tuple[int, int]:
    """The address of C's `clock_gettime` and the number of a steady clock; zeros where there is none (Windows).

    There threads take all long calls, whatever else runs.
    """
    if sys.platform == "win32":
        return 0, 0
    function: Any = ctypes.CDLL(None).clock_gettime
    return ctypes.cast(function, ctypes.c_void_p).value or 0, time.CLOCK_MONOTONIC


@intrinsic
def _nanoseconds(typingctx, function, clock):
    """What a clock says."""

    def build(context, builder, signature, operands):
        word, number = ir.IntType(64), ir.IntType(32)
        slot = cgutils.alloca_once(builder, ir.ArrayType(word, 2))  # a struct timespec
        kind = ir.FunctionType(number, [number, slot.type])
        address, which = operands
        builder.call(builder.inttoptr(address, kind.as_pointer()), [builder.trunc(which, number), slot])
        seconds, rest = (builder.extract_value(builder.load(slot), k) for k in range(2))
        return builder.add(builder.mul(seconds, ir.Constant(word, 10**9)), rest)

    return types.int64(types.int64, types.int64), build


@template
def run_body(body, threads, clock):
    def run_body(function, context, shares, length, forms):
        record = pointer_at(forms, np.int64)
        loop = pointer_at(record[_THREADS], np.int64)[_LOOP]
        may = loop != 0 and loop != _NOT_ASKED
        measured = may and record[_CLOCK] != 0
        form, begin = PARALLEL if may else SERIAL, 0
        cell = pointer_at(forms + 8 * (_CELLS + _CELL * class_of(length)), np.float64)
        if measured:
            form, begin = chosen(cell), clock(record[_CLOCK], record[_CLOCK_ID])
        if form == PARALLEL:
            threads(loop, function, context, shares)
        else:
            for share in range(shares):
                body(function, context, share)
        if measured:
            noted(cell, form, np.float64(clock(record[_CLOCK], record[_CLOCK_ID]) - begin))

    return run_body


@functools.cache
def run() -> Linked:
    """`run_body`, which only calls that threads may take need."""
    return linked(run_body.bind(body=BODY.call, threads=PARALLEL_FOR.call, clock=_nanoseconds), RUN)
