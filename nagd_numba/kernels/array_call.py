"""A step from Python in one compiled call, which looks at the arrays itself.

`ArrayCall` is for arrays that are new in each call, `BoundCall` for vectors that were checked before.  Both return a
status; `UNFIT` means that nothing was written, and that the usual checks, in Python, shall say why, or take the call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numba import types

from .forms import PARALLEL_FROM, asked
from .jit import entry_point, inlined, kernel
from .pointers import pointer_at
from .python_objects import (
    ALIGNED,
    C_CONTIGUOUS,
    DATA,
    DIMENSIONS,
    DTYPE,
    FLAGS,
    ITEMS,
    LENGTH,
    OBJECT,
    SHAPE,
    TYPE,
    VALUE,
    WRITEABLE,
    dtype_tag,
    half,
    object_address,
    real,
    release,
    room,
    tag_of,
    take_back,
    word,
)
from .segments import GROUPED, STEP, GroupedStep, Step, Table

UNFIT = -1
MOST_ARRAYS, MOST_NUMBERS = 8, 16
LOCKED = 4_096  # elements that are stepped without giving up Python's lock, in a microsecond or less

# The words of a record begin with addresses of Python's types, and how many numbers there are.
_ARRAY, _TUPLE, _FLOAT, _FLOAT64, _NUMBERS, _OWN = range(6)
_TYPES = tuple(map(id, (np.ndarray, tuple, float, np.float64)))

# Then come, in one of `ArrayCall`, the number of states, and for each dtype its tag, the address of the kernel (0 until
# it is compiled), the bytes of an element, and the address of the kernel's forms.
_STATES, _KINDS = _OWN, _OWN + 1
_KERNEL, _ITEMSIZE, _FORMS, _KIND = 1, 2, 3, 4
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))

# In one of `BoundCall` the address of `None`, the kernel and its forms, the table, its elements, the number whose being
# 0 makes another kernel (or -1), whether it is 0, the addresses of the numbers, of those that they follow, and of the
# record of groups, or 0.
_NONE, _BOUND, _BOUND_FORMS, _PLACES, _ENDS, _COUNT, _SIZE, _BRANCH, _ZERO, _VALUES, _FOLLOWED, _GROUPS = range(
    _OWN, _OWN + 12
)

# In a record of groups how many there are, and the addresses of the group of each vector, of memory for the constants
# and for the rows of numbers, and of the fields of `RowSources`.
_ROWS, _GROUP_OF, _HELD, _MADE, _SOURCES, _OWN_NUMBERS, _LEADERS = range(7)
SHARED, ITS_OWN, AS_ITS_LEADER = range(3)

Call = Callable[..., int]


class ArrayCall:
    """`call(params, grads, states, numbers)`: a step of plain NumPy arrays; `states` and `numbers` are tuples.

    It takes C-contiguous arrays of one shape and dtype, for which `enable` was called, and floats.
    """

    def __init__(self, states: int, numbers: int) -> None:
        assert states + 2 <= MOST_ARRAYS
        assert numbers <= MOST_NUMBERS
        self._record = np.zeros(_KINDS + _KIND * len(DTYPES), np.int64)
        self._record[:_KINDS] = *_TYPES, numbers, states
        self._kept: list[Step] = []  # their kernels
        self.call: Call = _with_record(_array_entry(), self._record, self._kept)

    def enable(self, step: Step, dtype: np.dtype[Any]) -> None:
        """Arrays of this dtype are for this step."""
        at = _KINDS + _KIND * DTYPES.index(dtype)
        self._kept.append(step)
        self._record[at : at + _KIND] = tag_of(dtype), step.address, dtype.itemsize, _forms(step)


def _with_record(entry: Callable[..., int], record: np.ndarray, kept: Any) -> Callable[..., int]:
    """An entry with its record, which lives as long as this function, as does what its addresses point at."""
    made: Any = functools.partial(entry, int(record.ctypes.data))
    made.kept = record, kept
    return cast(Callable[..., int], made)


def _forms(step: Step | GroupedStep) -> int:
    return 0 if step.forms is None else step.forms.address


def array_call(record_at, params, grads, states, numbers):
    """See `ArrayCall`."""
    record = pointer_at(record_at, np.int64)
    x, others, values = object_address(params), object_address(states), object_address(numbers)
    if word(x, TYPE) != record[_ARRAY] or word(others, TYPE) != record[_TUPLE]:
        return UNFIT
    kind = _KINDS
    tag = dtype_tag(word(x, DTYPE))
    if tag != record[kind]:
        kind += _KIND
        if tag != record[kind]:
            return UNFIT
    count = record[_STATES]
    if record[kind + _KERNEL] == 0 or word(others, LENGTH) != count:
        return UNFIT
    dimensions, shape = half(x, DIMENSIONS), pointer_at(word(x, SHAPE), np.int64)
    size = 1
    for d in range(dimensions):
        size *= shape[d]
    nbytes = size * record[kind + _ITEMSIZE]
    places_at, ends_at, numbers_at = room(MOST_ARRAYS), room(1), room(MOST_NUMBERS)
    places = pointer_at(places_at, np.int64)
    for k in range(count + 2):
        y, needed = x, C_CONTIGUOUS | ALIGNED | WRITEABLE
        if k == 1:
            y, needed = object_address(grads), C_CONTIGUOUS | ALIGNED
        elif k > 1:
            y = word(others, ITEMS + 8 * (k - 2))
        if word(y, TYPE) != record[_ARRAY]:
            return UNFIT
        if half(y, DIMENSIONS) != dimensions or half(y, FLAGS) & needed != needed or dtype_tag(word(y, DTYPE)) != tag:
            return UNFIT
        other_shape = pointer_at(word(y, SHAPE), np.int64)
        for d in range(dimensions):
            if other_shape[d] != shape[d]:
                return UNFIT
        place = word(y, DATA)
        for other in range(k):
            if abs(places[other] - place) < nbytes:
                return UNFIT
        places[k] = place
    if not floats_of(values, record, numbers_at, 0):
        return UNFIT
    pointer_at(ends_at, np.int64)[0] = size
    return stepped(record[kind + _KERNEL], places_at, ends_at, 1, numbers_at, record[kind + _FORMS], size, 0)


class RowSources(NamedTuple):
    """Where the numbers of groups come from: a row for each group, a column for each number.

    sources   int64: `SHARED` by all groups, `ITS_OWN`, or `AS_ITS_LEADER`: its own where the shared number and that of
              the column that it follows are equal
    own       float64
    leaders   int64: for each column the one that it follows, or -1
    """

    sources: np.ndarray
    own: np.ndarray
    leaders: np.ndarray


class BoundCall:
    """`call(numbers)`: a step of the vectors of a table; `numbers` is a tuple of floats, and None for those as bound.

    followed   for each number, which other it is equal to where neither it nor `None` was bound; or -1
    branch     the number whose being 0 makes another kernel, or -1
    groups     for a step by groups: where their numbers come from, and the group of each vector
    """

    def __init__(
        self,
        step: Step | GroupedStep,
        table: Table,
        numbers: tuple[float, ...],
        followed: list[int],
        branch: int,
        groups: tuple[RowSources, np.ndarray] | None = None,
    ) -> None:
        assert len(numbers) <= MOST_NUMBERS
        kept = table.places, table.ends, np.array(numbers, np.float64), np.array(followed, np.int64)
        places, ends, values, follow = (x.ctypes.data for x in kept)
        zero = branch >= 0 and numbers[branch] == 0
        own = id(None), step.address, _forms(step), places, ends, len(table.ends), table.ends[-1], branch, zero
        rows, of_groups = _record_of_groups(step, *groups) if groups and isinstance(step, GroupedStep) else (0, ())
        record = np.array([*_TYPES, len(numbers), *own, values, follow, rows], np.int64)
        everything = kept, step, table, of_groups
        self.call: Callable[[tuple[float | None, ...]], int] = _with_record(_bound_entry(), record, everything)


def _record_of_groups(step: GroupedStep, rows: RowSources, group_of: np.ndarray) -> tuple[int, Any]:
    """The address of a record of groups, and what has to be kept for it."""
    count = len(rows.own)
    kept = group_of, step.room(count), np.empty_like(rows.own), *rows
    record = np.array([count, *(x.ctypes.data for x in kept)], np.int64)
    return record.ctypes.data, (record, kept)


def bound_call(record_at, numbers):
    """See `BoundCall`."""
    record = pointer_at(record_at, np.int64)
    given, numbers_at = object_address(numbers), room(MOST_NUMBERS)
    values, bound = pointer_at(numbers_at, np.float64), pointer_at(record[_VALUES], np.float64)
    followed = pointer_at(record[_FOLLOWED], np.int64)
    for k in range(record[_NUMBERS]):
        values[k] = bound[k]
    if not floats_of(given, record, numbers_at, record[_NONE]):
        return UNFIT
    for k in range(record[_NUMBERS]):
        if followed[k] >= 0 and word(given, ITEMS + 8 * k) == record[_NONE]:
            values[k] = values[followed[k]]
    if record[_BRANCH] >= 0 and (values[record[_BRANCH]] == 0.0) != (record[_ZERO] != 0):
        return UNFIT
    kernel_at, places_at, ends_at, count = record[_BOUND], record[_PLACES], record[_ENDS], record[_COUNT]
    if record[_GROUPS] != 0:
        numbers_at = numbers_of_groups(record[_GROUPS], values, record[_NUMBERS])
    forms, size = record[_BOUND_FORMS], record[_SIZE]
    return stepped(kernel_at, places_at, ends_at, count, numbers_at, forms, size, record[_GROUPS])


@inlined
def numbers_of_groups(groups_at, values, count):
    """The address of the rows of numbers, made of those that groups share."""
    groups = pointer_at(groups_at, np.int64)
    made, own = pointer_at(groups[_MADE], np.float64), pointer_at(groups[_OWN_NUMBERS], np.float64)
    sources, leaders = pointer_at(groups[_SOURCES], np.int64), pointer_at(groups[_LEADERS], np.int64)
    for row in range(groups[_ROWS]):
        for k in range(count):
            at = row * count + k
            own_one = sources[at] == ITS_OWN
            if sources[at] == AS_ITS_LEADER:
                own_one = values[k] == values[leaders[k]]
            made[at] = own[at] if own_one else values[k]
    return groups[_MADE]


@inlined
def floats_of(values, record, numbers_at, skipped):
    """Copy the floats of a tuple, but for the object at `skipped`; False if there is anything else."""
    count = record[_NUMBERS]
    if word(values, TYPE) != record[_TUPLE] or word(values, LENGTH) != count:
        return False
    numbers = pointer_at(numbers_at, np.float64)
    for k in range(count):
        value = word(values, ITEMS + 8 * k)
        if word(value, TYPE) == record[_FLOAT] or word(value, TYPE) == record[_FLOAT64]:
            numbers[k] = real(value, VALUE)
        elif value != skipped:
            return False
    return True


@inlined
def stepped(kernel_at, places_at, ends_at, count, numbers_at, forms, size, groups_at):
    """The status of a step of vectors of `size` elements in all, without Python's lock if that takes long."""
    if size < LOCKED:
        return started(kernel_at, places_at, ends_at, count, numbers_at, 0, groups_at)
    if size < PARALLEL_FROM:
        forms = 0
    elif forms != 0 and not asked(forms):
        return UNFIT
    thread = release()
    status = started(kernel_at, places_at, ends_at, count, numbers_at, forms, groups_at)
    take_back(thread)
    return status


@inlined
def started(kernel_at, places_at, ends_at, count, numbers_at, forms, groups_at):
    """The status of a kernel, by groups if there is a record of them."""
    if groups_at == 0:
        return STEP_CALL(kernel_at, places_at, ends_at, count, numbers_at, forms)
    groups = pointer_at(groups_at, np.int64)
    group_of, rows, held = groups[_GROUP_OF], groups[_ROWS], groups[_HELD]
    return GROUPED_CALL(kernel_at, places_at, ends_at, count, numbers_at, forms, group_of, rows, held)


STEP_CALL, GROUPED_CALL = STEP.call, GROUPED.call


@functools.cache
def _array_entry() -> Call:
    signature = types.int64(types.int64, OBJECT, OBJECT, OBJECT, OBJECT)
    return entry_point(kernel(array_call, signature, locked=True, allocates=False))


@functools.cache
def _bound_entry() -> Callable[..., int]:
    signature = types.int64(types.int64, OBJECT)
    return entry_point(kernel(bound_call, signature, locked=True, allocates=False))
