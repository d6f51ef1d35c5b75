"""One parallel loop for all kernels: `parallel_for(body, context, count)`.

`body` is the address of a function of the interface `BODY`, which is called with `context` and each number below
`count`, on all of Numba's threads; `context` is the address of whatever it works on (`pointers.spill`).  So a function
that runs in parallel is compiled once, by itself, and the loop that distributes the calls once for all.
"""

from __future__ import annotations

import functools

from numba import prange, types

from .linking import Interface, Linked, linked
from .template import template

BODY = Interface(types.void(types.int64, types.int64))
PARALLEL_FOR = Interface(types.void(types.int64, types.int64, types.int64))


@template
def distribute(call):
    def distribute(body, context, count):
        for share in prange(count):
            call(body, context, share)

    return distribute


@functools.cache
def parallel_for() -> Linked:
    """The loop, as a function that kernels call at its address or link to."""
    return linked(distribute.bind(call=BODY.call), PARALLEL_FOR, parallel=True, allocates=True)
