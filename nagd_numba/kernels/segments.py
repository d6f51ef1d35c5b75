"""A rule over many vectors in one pass, from a table of their addresses.

The parameters of a network are often hundreds of small arrays: a call for each would take longer than the arithmetic.
Here one call steps all of them, in shares of equal length, whatever the lengths of the vectors.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from .elementwise import HYPER, LINE, OK, SHARES_PER_THREAD, acceptable, all_finite, limits, linked_loop
from .jit import inlined, kernel, python_callable
from .linking import Linked, linked
from .parallel import BODY, in_parallel, one_after_another, parallel_for
from .pointers import pointer, restorer, spill
from .rule import Rule
from .template import template

GRADS = 1  # the row of a table that has the addresses of the gradients

_settings: Any = config  # numba's types do not list its settings
_PLACES = types.Array(types.int64, 2, "C")
_ENDS = types.Array(types.int64, 1, "C")


class Table:
    """Where the arrays of many vectors lie.

    places  int64 (2 + states, vectors): the addresses of the parameters, of the gradients, of each state
    ends    int64 (vectors,): the number of elements up to the end of each vector

    Vectors are contiguous, of one dtype, and outlive their use; those without elements are left out.
    """

    def __init__(self, written: Sequence[Any], sizes: Any) -> None:
        """`written` has the addresses of the parameters, then those of each state."""
        params, *states = written
        self.places = np.array([params, params, *states], np.int64)
        self.ends = np.cumsum(sizes, dtype=np.int64)


class Bounds:
    """Where pieces of memory begin and end, in the order of their addresses.

    One that lies in another is taken to end where that one ends.
    """

    def __init__(self, addresses: Any, lengths: Any) -> None:
        """`lengths` are in bytes, one for each address."""
        addresses, lengths = np.asarray(addresses, np.int64), np.asarray(lengths, np.int64)
        order = np.argsort(addresses, kind="stable")
        self.starts = addresses[order]
        self.stops = np.maximum.accumulate(self.starts + lengths[order])

    @property
    def overlap(self) -> bool:
        """Do two of them share memory?"""
        return bool((self.starts[1:] < self.stops[:-1]).any())

    def touched_by(self, addresses: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Which of other pieces share memory with these: an array of bools."""
        if len(self.starts) == 0:
            return np.zeros(len(addresses), bool)
        k = np.searchsorted(self.stops, addresses, side="right")
        before_the_end = k < len(self.starts)
        touched: np.ndarray = before_the_end & (self.starts[np.minimum(k, len(self.starts) - 1)] < addresses + lengths)
        return touched


@template
def segments(run, constants, OPTIONS, LOW, BELOW, T, SHARES):
    def segments(places, ends, hyper):
        if not acceptable(hyper, LOW, BELOW):
            return HYPER
        scalars = constants(hyper, T, OPTIONS)
        if not all_finite(scalars):
            return HYPER
        run(spill((pointer(places), pointer(ends), np.int64(ends.size), np.int64(SHARES), scalars)), SHARES)
        return OK

    return segments


@template
def share_of_segments(loop, restore, T, ARRAYS):
    def share_of_segments(context, share):
        places, ends, count, shares, scalars = restore(context)
        total = ends[count - 1]
        length = ((total + shares - 1) // shares + LINE - 1) // LINE * LINE
        first, last = min(total, share * length), min(total, (share + 1) * length)
        k = first_above(ends, count, first)
        start = ends[k - 1] if k > 0 else 0
        while first < last:
            size = ends[k] - start
            at = each_at(places, k, count, size, T, ARRAYS)
            loop(at[0], at[1], at[2:], first - start, min(last, ends[k]) - start, scalars)
            first = start = ends[k]
            k += 1

    return share_of_segments


def _each_at(typingctx, places, k, stride, size, kind, count):
    if not (isinstance(kind, types.NumberClass) and isinstance(count, types.IntegerLiteral)):
        raise TypingError(f"a type of numbers and a constant are needed, got {kind} and {count}")
    made = types.UniTuple(types.CPointer(kind.dtype), count.literal_value)

    def build(context, builder, signature, operands):
        base, first, step, *_ = operands
        parts = []
        for row in range(made.count):
            at = builder.gep(base, [builder.add(first, builder.mul(step, ir.Constant(ir.IntType(64), row)))])
            parts.append(builder.inttoptr(builder.load(at), context.get_value_type(made.dtype)))
        return context.make_tuple(builder, made, parts)

    return made(places, types.int64, types.int64, types.int64, kind, count), build


def _each_at_python(places, k, stride, size, kind, count):
    memory = np.ctypeslib.as_ctypes_type(kind) * int(size)
    return tuple(np.frombuffer(memory.from_address(int(places[k + row * stride])), kind) for row in range(count))


# each_at(places, k, stride, size, np.float32, count): pointers to the `size` numbers that lie at each of the addresses
# places[k], places[k + stride], ...; the count is a constant
each_at = python_callable(intrinsic(prefer_literal=True)(_each_at), _each_at_python)


@inlined
def first_above(x, count, bound):
    """The first place in an ascending `x` with a value above `bound`; `count` if there is none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if x[middle] > bound:
            high = middle
        else:
            low = middle + 1
    return low


@functools.cache
def linked_segments(rule: Rule, options: tuple[Any, ...], dtype: types.Type) -> Linked:
    """`share_of_segments`, compiled by itself."""
    x = types.CPointer(types.int64)
    context = types.Tuple([x, x, types.int64, types.int64, types.UniTuple(dtype, rule.constant_count)])
    body = share_of_segments.bind(
        loop=linked_loop(rule, options, dtype).call,
        restore=restorer(context),
        T=_scalar(dtype),
        ARRAYS=2 + len(rule.states),
    )
    return linked(body, BODY)


@functools.cache
def segments_kernel(rule: Rule, options: tuple[Any, ...], dtype: np.dtype[Any], parallel: bool) -> Any:
    """`kernel(places, ends, hyper) -> status` for the parts of a `Table`, whose arrays do not overlap."""
    kind = from_dtype(dtype)
    body = linked_segments(rule, options, kind)
    if parallel:
        shares = SHARES_PER_THREAD * int(_settings.NUMBA_NUM_THREADS)
        run = in_parallel.bind(body=body.locate, parallel_for=parallel_for().call)
    else:
        shares = 1
        run = one_after_another.bind(body=body.call)
    bound = segments.bind(
        run=inlined(run),
        constants=rule.constants,
        OPTIONS=options,
        T=_scalar(kind),
        SHARES=shares,
        **limits(rule),
    )
    return kernel(bound, (_PLACES, _ENDS, types.UniTuple(types.float64, len(rule.hyper))))


def _scalar(dtype: types.Type) -> Any:
    return np.float32 if dtype == types.float32 else np.float64
