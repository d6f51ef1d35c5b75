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

from .elementwise import LINE, SHARES_PER_THREAD, acceptable, all_finite, limits, linked_loop, scalars_type
from .forms import Forms, run_shares
from .jit import inlined, python_callable
from .linking import Interface, Linked, linked
from .parallel import BODY
from .pointers import address_of_array, load_tuple, pointer_at, restorer, spill
from .rule import Rule
from .statuses import HYPER, OK
from .template import template

GRADS = 1  # the row of a table that has the addresses of the gradients

_settings: Any = config  # numba's types do not list its settings


class Table:
    """Where the arrays of many vectors lie.

    places  int64 (arrays, vectors): the addresses of the parameters, of the gradients, of each array beside them
    ends    int64 (vectors,): the number of elements up to the end of each vector, or of places in the mask

    Vectors are contiguous, of one dtype, and outlive their use; those without elements are left out.
    """

    def __init__(self, written: Sequence[Any], sizes: Any) -> None:
        """`written` has the addresses of the parameters, then those of each state."""
        self.kept: Any = None
        params, *states = written
        self.places = np.array([params, params, *states], np.int64)
        self.ends = np.cumsum(sizes, dtype=np.int64)

    @functools.cached_property
    def addresses(self) -> tuple[Any, Any]:
        """Of `places` and `ends`."""
        return address_of_array(self.places), address_of_array(self.ends)

    @classmethod
    def of(cls, vectors: Sequence[Sequence[np.ndarray]], places: bool = False) -> Table:
        """The table of arrays, which it keeps: of `(params, grads, *beside)` for each vector.

        With `places` the last one has the places of the elements.
        """
        params, grads, *states = ([x.ctypes.data for x in column] for column in zip(*vectors, strict=True))
        made = cls([params, *states], [x[-1 if places else 0].size for x in vectors])
        made.places[GRADS] = grads
        made.kept = vectors
        return made


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
def segments(locate, constants, OPTIONS, LOW, BELOW, NUMBERS, T, SHARES):
    def segments(places_at, ends_at, count, numbers_at, forms):
        numbers = load_tuple(pointer_at(numbers_at, np.float64), 0, NUMBERS)
        if not acceptable(numbers, LOW, BELOW):
            return HYPER
        scalars = constants(numbers, T, OPTIONS)
        if not all_finite(scalars):
            return HYPER
        places, ends = pointer_at(places_at, np.int64), pointer_at(ends_at, np.int64)
        total = ends[count - 1]
        shares = SHARES if forms != 0 else 1
        run_shares(locate(), spill((places, ends, count, np.int64(shares), scalars)), shares, total, forms)
        return OK

    return segments


@template
def grouped(locate, constants, OPTIONS, LOW, BELOW, NUMBERS, CONSTANTS, C, T, SHARES):
    """`segments` with hyper-parameters for each group of vectors."""

    def grouped(places_at, ends_at, count, numbers_at, forms, group_of_at, groups, held_at):
        held = pointer_at(held_at, C)
        for group in range(groups):
            numbers = load_tuple(pointer_at(numbers_at, np.float64), group * NUMBERS, NUMBERS)
            if not acceptable(numbers, LOW, BELOW):
                return HYPER
            scalars = constants(numbers, T, OPTIONS)
            if not all_finite(scalars):
                return HYPER
            for k in range(CONSTANTS):
                held[group * CONSTANTS + k] = scalars[k]
        places, ends = pointer_at(places_at, np.int64), pointer_at(ends_at, np.int64)
        total = ends[count - 1]
        shares = SHARES if forms != 0 else 1
        held_of = pointer_at(group_of_at, np.int64), held
        run_shares(locate(), spill((places, ends, count, np.int64(shares), held_of)), shares, total, forms)
        return OK

    return grouped


@template
def share_of_segments(loop, arrays_at, scalars_of, restore):
    def share_of_segments(context, share):
        places, ends, count, shares, held = restore(context)
        total = ends[count - 1]
        length = ((total + shares - 1) // shares + LINE - 1) // LINE * LINE
        first, last = min(total, share * length), min(total, (share + 1) * length)
        k = first_above(ends, count, first)
        start = ends[k - 1] if k > 0 else 0
        while first < last:
            params, grads, states = arrays_at(places, k, count, ends[k] - start)
            loop(params, grads, states, first - start, min(last, ends[k]) - start, scalars_of(held, k))
            first = start = ends[k]
            k += 1

    return share_of_segments


@inlined
def same_for_all(held, k):
    return held


@template
def of_group(CONSTANTS):
    def of_group(held, k):
        group_of, scalars = held
        return load_tuple(scalars, group_of[k] * CONSTANTS, CONSTANTS)

    return of_group


@template
def unmasked(T, ARRAYS):
    def unmasked(places, k, count, size):
        at = each_at(places, k, count, size, T, ARRAYS)
        return at[0], at[1], at[2:]

    return unmasked


@template
def with_bytes(T, ARRAYS):
    def with_bytes(places, k, count, size):
        at = each_at(places, k, count, size, T, ARRAYS)
        return at[0], at[1], at[2:] + each_at(places, ARRAYS * count + k, count, size, np.uint8, 1)

    return with_bytes


@template
def with_places(T, ARRAYS):
    def with_places(places, k, count, size):
        mask = each_at(places, ARRAYS * count + k, count, size, np.int64, 1)
        at = each_at(places, k, count, mask[0][size - 1] + 1, T, ARRAYS)
        return at[0], at[1], at[2:] + mask

    return with_places


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
def linked_segments(rule: Rule, options: tuple[Any, ...], dtype: types.Type, in_groups: bool = False) -> Linked:
    """`share_of_segments`, compiled by itself."""
    x, scalars = types.CPointer(types.int64), scalars_type(rule, dtype)
    held = types.Tuple([x, types.CPointer(scalars.dtype)]) if in_groups else scalars
    context = types.Tuple([x, x, types.int64, types.int64, held])
    arrays_at = {"": unmasked, "bytes": with_bytes, "places": with_places}[rule.mask]
    body = share_of_segments.bind(
        loop=linked_loop(rule, options, dtype).call,
        arrays_at=inlined(arrays_at.bind(T=_scalar(dtype), ARRAYS=rule.moved)),
        scalars_of=inlined(of_group.bind(CONSTANTS=rule.constant_count)) if in_groups else same_for_all,
        restore=restorer(context),
    )
    return linked(body, BODY, on_disk=not rule.of_users)


# Addresses of places and ends of a `Table`, its number of vectors, the addresses of the hyper-parameters (float64) and
# of a record of `Forms`, or 0; returns a status of `elementwise`.
STEP = Interface(types.int64(*[types.int64] * 5))

# The same, then the address of the group of each vector, the number of groups, each with a row of hyper-parameters, and
# the address of memory for their constants.
GROUPED = Interface(types.int64(*[types.int64] * 8))


@functools.cache
def segments_kernel(rule: Rule, options: tuple[Any, ...], dtype: np.dtype[Any], in_groups: bool = False) -> Linked:
    """A step of the vectors of a `Table`, which share no memory; with `in_groups` by several hyper-parameters."""
    kind = from_dtype(dtype)
    slots = {
        "locate": linked_segments(rule, options, kind, in_groups).locate,
        "constants": rule.constants,
        "OPTIONS": options,
        "NUMBERS": len(rule.hyper),
        "T": _scalar(kind),
        "SHARES": SHARES_PER_THREAD * int(_settings.NUMBA_NUM_THREADS),
        **limits(rule),
    }
    if in_groups:
        held = {"C": _scalar(scalars_type(rule, kind).dtype), "CONSTANTS": rule.constant_count}
        return linked(grouped.bind(**slots, **held), GROUPED, from_python=True, on_disk=not rule.of_users)
    return linked(segments.bind(**slots), STEP, from_python=True, on_disk=not rule.of_users)


class Step:
    """A rule with its options, on vectors of one dtype: `step(table, hyper)` returns a status.

    `forms` decides whether threads take it; None if they never do.
    """

    def __init__(self, rule: Rule, options: tuple[Any, ...], dtype: np.dtype[Any], forms: Forms | None) -> None:
        self._kernel, self.forms = segments_kernel(rule, options, dtype), forms
        self.address = self._kernel.address

    def __call__(self, table: Table, hyper: Sequence[float]) -> int:
        numbers = np.array(hyper, np.float64)
        forms = 0 if self.forms is None else self.forms.of(int(table.ends[-1]))
        values = address_of_array(numbers)
        status: int = self._kernel.kernel(*table.addresses, len(table.ends), values, forms)
        return status


class GroupedStep:
    """The same with a row of hyper-parameters for each group of the vectors of a table."""

    def __init__(self, rule: Rule, options: tuple[Any, ...], dtype: np.dtype[Any]) -> None:
        self._kernel, self.forms = segments_kernel(rule, options, dtype, in_groups=True), Forms()
        self.address = self._kernel.address
        self._count, self._dtype = rule.constant_count, np.dtype(np.float64) if rule.exact else dtype

    def room(self, groups: int) -> np.ndarray:
        """Memory for the constants of so many groups."""
        return np.empty(groups * self._count, self._dtype)

    def __call__(self, table: Table, numbers: np.ndarray, group_of: np.ndarray) -> int:
        held = self.room(len(numbers))  # which must live until the kernel has ended
        values, of, at = map(address_of_array, (numbers, group_of, held))
        forms = self.forms.of(int(table.ends[-1]))
        status: int = self._kernel.kernel(*table.addresses, len(table.ends), values, forms, of, len(numbers), at)
        return status


@functools.cache
def grouped_step_of(rule: Rule, options: tuple[Any, ...], dtype: np.dtype[Any]) -> GroupedStep:
    """The step by groups that all arrays of this kind share."""
    return GroupedStep(rule, options, dtype)


@functools.cache
def step_of(rule: Rule, options: tuple[Any, ...], dtype: np.dtype[Any]) -> Step:
    """The step that all arrays of this kind share, with what its calls took."""
    return Step(rule, options, dtype, Forms())


def _scalar(dtype: types.Type) -> Any:
    return np.float32 if dtype == types.float32 else np.float64
