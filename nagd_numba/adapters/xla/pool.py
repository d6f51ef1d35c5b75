"""A parallel loop on the threads of XLA: `run(api, ctx, body, context, count)`.

`body` is the address of a function of the interface `kernels.parallel.BODY`, called with `context` and each number below
`count`.  The threads are those that XLA runs everything else on, as many as it was told to use, so that no second set
of threads spins beside them, and it does not matter which threading layer Numba has, or whether the process was forked.

The caller takes numbers as well, from the same counter, and in the end waits only for those that a running thread has
taken: it never waits for a thread to come free.  A task that starts when all are taken finds the counter run out.  The
memory that they share (`_BLOCK` words) lives until the last of them is through, which may be after the call.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...kernels.jit import c_function, inlined, unique_name
from ...kernels.linking import Linked, linked, Interface
from ...kernels.parallel import BODY
from ...kernels.pointers import pointer_at, spill
from ...kernels.template import template
from .frame import Offsets, dropped, element, invoke, put_word, word

_HOLDERS, _NEXT, _DONE, _COUNT, _BODY, _CONTEXT = (8 * k for k in range(6))
_BLOCK = 6 * 8

_call = BODY.call
RUN = Interface(types.void(*5 * [types.int64]))


@intrinsic
def fetch_add(typingctx, address, value):
    """Add to the word at an address, as one step for all threads; what it was before."""

    def build(context, builder, signature, operands):
        place = builder.inttoptr(operands[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, operands[1], "seq_cst")

    return types.int64(types.int64, types.int64), build


def _external(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the C library."""
    return types.ExternalFunction(name, result(*arguments))


_malloc = _external("malloc", types.int64, types.int64)
_free = _external("free", types.void, types.int64)
_sched_yield = _external("sched_yield", types.intc)


@inlined
def _take(block):
    """Do what is left, together with all other threads."""
    count = word(block + _COUNT)
    k = fetch_add(block + _NEXT, 1)
    while k < count:
        _call(word(block + _BODY), word(block + _CONTEXT), k)
        fetch_add(block + _DONE, 1)
        k = fetch_add(block + _NEXT, 1)


@inlined
def _release(block, holders):
    """So many threads are through with the block."""
    if fetch_add(block + _HOLDERS, -holders) == holders:
        _free(block)


def task(block):
    """What a thread of the pool runs."""
    _take(block)
    _release(block, 1)


@template
def pooled(task_address, AT):
    def pooled(api, ctx, body, context, count):
        threads = spill((np.int64(1),))
        asked = spill((np.int64(AT.threads_size), np.int64(0), np.int64(ctx), np.int64(threads)))
        dropped(api, invoke(word(api + AT.threads), asked), AT)
        helpers = min(word(threads), count) - 1
        block = _malloc(_BLOCK) if helpers > 0 else np.int64(0)
        if block == 0:
            for k in range(count):
                _call(body, context, k)
            return
        put_word(block + _HOLDERS, helpers + 1)
        put_word(block + _NEXT, 0)
        put_word(block + _DONE, 0)
        put_word(block + _COUNT, count)
        put_word(block + _BODY, body)
        put_word(block + _CONTEXT, context)
        started = 0
        for _ in range(helpers):
            given = (np.int64(AT.schedule_size), np.int64(0), np.int64(ctx), np.int64(task_address()), np.int64(block))
            if dropped(api, invoke(word(api + AT.schedule), spill(given)), AT):
                break
            started += 1
        _take(block)
        while fetch_add(block + _DONE, 0) < count:
            _sched_yield()
        _release(block, 1 + helpers - started)

    return pooled


@functools.cache
def pool(at: Offsets) -> Linked:
    """`run`, compiled by itself."""
    return linked(pooled.bind(task_address=_task_address(), AT=at), RUN)


@functools.cache
def _task_address() -> Any:
    """`address()`: where `task` is, in compiled code that is loaded after it."""
    made = c_function(task, types.void(types.int64))
    symbol = unique_name(task, "of C")
    binding.add_symbol(symbol, made.address)
    _kept.append(made)

    def locate(typingctx):
        def build(context, builder, signature, operands):
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
            return builder.ptrtoint(cgutils.get_or_insert_function(builder.module, kind, symbol), ir.IntType(64))

        return types.int64(), build

    return intrinsic(locate)


_kept: list[Any] = []  # compiled functions that are called at their address
