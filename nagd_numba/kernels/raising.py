"""Where an exception of compiled code reaches a caller in Python.

Numba shares a `prange` out to the threads of a pool.  An exception in one that Python did not call is dropped, with
the rest of that thread's share; one in the calling thread ends its share and comes out of the caller's function, as a
`SystemError`.  `heard()` tells the two apart.  It takes the GIL, as raising does: ask only where something is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from .jit import python_callable

ALWAYS, WHERE_HEARD, NEVER = range(3)  # when a call lets the exceptions of what it calls through


def is_heard(context: Any, builder: Any) -> Any:
    """LLVM code for `heard`.

    Whether the thread has a Python frame, not whether Python knows it: Numba's nested loops make a pool's thread known
    as long as they run.
    """
    api = context.get_python_api(builder)
    gil = api.gil_ensure()
    current = cgutils.get_or_insert_function(builder.module, ir.FunctionType(cgutils.voidptr_t, []), "PyEval_GetFrame")
    frame = builder.call(current, [])
    api.gil_release(gil)
    return cgutils.is_not_null(builder, frame)


def drop_pending(context: Any, builder: Any) -> None:
    """LLVM code that clears what Python code has raised in this thread, but for KeyboardInterrupt and its like."""
    api = context.get_python_api(builder)
    gil = api.gil_ensure()
    kind = ir.FunctionType(ir.IntType(32), [cgutils.voidptr_t])
    matches = cgutils.get_or_insert_function(builder.module, kind, "PyErr_ExceptionMatches")
    ordinary = builder.call(matches, [builder.bitcast(api.get_c_object("PyExc_Exception"), cgutils.voidptr_t)])
    with builder.if_then(cgutils.is_true(builder, ordinary)):
        api.err_clear()
    api.gil_release(gil)


def _heard(typingctx):
    def build(context, builder, signature, operands):
        return is_heard(context, builder)

    return types.boolean(), build


heard: Any = python_callable(intrinsic(_heard), lambda: True)


@intrinsic
def fill_with_nan(typingctx, params, states):
    """Write NaN to every element.  (In LLVM code: Numba's own would count references, in the ordinary path too.)"""

    def build(context, builder, signature, operands):
        kinds = [signature.args[0], *signature.args[1]]
        for kind, value in zip(kinds, [operands[0], *cgutils.unpack_tuple(builder, operands[1])], strict=True):
            array = context.make_array(kind)(context, builder, value)
            nan = context.get_constant(kind.dtype, np.nan)
            with cgutils.loop_nest(builder, cgutils.unpack_tuple(builder, array.shape), cgutils.intp_t) as indices:
                builder.store(nan, cgutils.get_item_pointer(context, builder, kind, array, indices))
        return context.get_dummy_value()

    return types.none(params, states), build


def nans_like(scalars):
    """A tuple of NaN of the types of these numbers."""
    return tuple(type(x)(np.nan) for x in scalars)


@overload(nans_like)
def _overload_nans_like(scalars):
    parts = "".join(f"t{k}(nan), " for k in range(len(scalars)))
    return eval(f"lambda scalars: ({parts})", {"nan": np.nan, **{f"t{k}": kind for k, kind in enumerate(scalars)}})
