"""Many problems solved in lanes, over all cores: the user's functions, their rows, and what shares problems out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, get_num_threads, prange, typeof, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np import arrayobj

from ..kernels.interrupts import interrupts_wait
from ..kernels.jit import inlined, over_user_functions, subroutine
from ..kernels.lanes import modules
from ..kernels.lanes.analysis import Value
from ..kernels.lanes.instructions import Unfit
from ..kernels.lanes.marks import mark_private, written
from ..kernels.lanes.memory import Memory
from ..kernels.lanes.modules import Loaded
from ..kernels.pointers import address, borrowed, keep_alive
from ..kernels.template import template
from ..kernels.threading_layer import parallel_allowed
from . import objective
from .lanes import MAPS, PROGRAM, compiled_program, known, reals
from .settings import Choices
from .specialize import Functions, objective_of, threads_take

LANES_FROM = 1_000  # problems; fewer are not worth compiling for
CHUNK = 1_000  # problems that a thread takes at a time, at most
ALIGNED = 64  # bytes of a vector register, at most
_word = ir.IntType(64)


def solver(functions: Functions, wanted: Choices, n: int, columns: tuple[Any, ...], common: tuple[Any, ...]) -> Any:
    """`solve_rows` as `specialize.rows` gives it, in lanes; None where functions or options have no such form."""
    rows = all(column.dtype.kind in "fiub" and column.itemsize <= 8 for column in columns)
    if wanted.settings.tracks or callable(functions.prox) or functions.penalty is not None or not rows:
        return None
    lanes, map_ = modules.width(), MAPS[functions.prox]
    try:
        with interrupts_wait():
            evaluate = compiled_evaluation(functions, typeof(columns), typeof(common), lanes)
            program = compiled_program(known(wanted.settings, map_, n), lanes)
    except Unfit:
        return None
    table, room = _table(columns, n, lanes)
    run = _rows(lanes, parallel_allowed() and threads_take(common))

    def solve(X, G, numbers, counts, statuses, settings, first, second, begin, end, columns, common):
        calls = program.address, evaluate.address, map_
        chunk = max(lanes, min(CHUNK, -(-(end - begin) // (4 * get_num_threads()))))
        results = X, G, numbers, counts, statuses
        run(*results, settings, first, second, begin, end, columns, common, table, room, calls, chunk)

    return solve


def _table(columns: tuple[Any, ...], n: int, lanes: int) -> tuple[np.ndarray, int]:
    """What `program` calls so, with a last row for the places of its own memory; and the bytes of that in all."""
    table, room = np.zeros((len(columns) + 1, 4), np.int64), 0

    def place(size: int, count: int) -> int:
        nonlocal room
        begin = room
        room += -(-size * count * lanes // ALIGNED) * ALIGNED
        return begin

    for k, column in enumerate(columns):
        count = int(np.prod(column.shape[1:]))
        table[k] = column.ctypes.data, count, column.itemsize, place(column.itemsize, count)
    table[-1] = 0, 0, place(8, objective.COUNTS), place(8, reals(n))
    return table, room + ALIGNED


@template
def evaluate_in_lanes(evaluate, restore):
    def evaluate_in_lanes(x, g, n, counts, bounded, lower, upper, context, wanted):
        counted, low, high = carray(counts, objective.COUNTS), carray(lower, n), carray(upper, n)
        # A function may return a whole number, or a float32.
        return np.float64(evaluate(carray(x, n), carray(g, n), counted, wanted, bounded, low, high, restore(context)))

    return evaluate_in_lanes


_reals, _wholes = types.CPointer(types.float64), types.CPointer(types.int64)
_EVALUATE = (_reals, _reals, types.int64, _wholes, types.boolean, _reals, _reals, types.int64, types.boolean)
_KINDS: list[Memory | Value] = [
    *(Memory.PRIVATE, Memory.IGNORED, Memory.PRIVATE, Memory.PRIVATE, Value.UNIFORM, Memory.PRIVATE, Value.UNIFORM),
    *(Memory.SHARED, Memory.SHARED, Value.UNIFORM, Value.LANES),
]


def compiled_evaluation(functions: Functions, columns: Any, common: Any, lanes: int) -> Loaded:
    """What evaluates in lanes; raises Unfit for functions that cannot."""
    made = _evaluation(functions, columns, common, lanes)
    if isinstance(made, Unfit):
        raise made
    return made


@functools.lru_cache(maxsize=128)
def _evaluation(functions: Functions, columns: Any, common: Any, lanes: int) -> Loaded | Unfit:
    evaluate, _ = objective_of(functions, subroutine(objective.take_elements))
    bound = evaluate_in_lanes.bind(evaluate=inlined(evaluate), restore=_restorer(columns, common))
    try:
        text, name = written(bound, _EVALUATE)
    except Exception as error:  # Numba's, of any type: something that only its own CPU has
        return Unfit(str(error))
    try:
        return modules.loaded(modules.in_lanes(modules.alone(text, name), name, _KINDS, lanes))
    except Unfit as error:
        return error


def _row_kind(column: types.Array) -> types.Type:
    """Of the type of a column: what is passed on of a row in lanes' memory."""
    return types.CPointer(column.dtype) if column.ndim == 1 else types.Array(column.dtype, column.ndim - 1, "C")


@intrinsic
def placed(typingctx, columns, common, table, base):
    """The address of the user's arguments: rows of `columns` in memory from `base` on, and `common`."""
    kinds = types.Tuple([*map(_row_kind, columns), *common])

    def build(context, builder, signature, operands):
        parts = []
        entries = context.make_array(table)(context, builder, operands[2])
        for k, (kind, value) in enumerate(zip(columns, cgutils.unpack_tuple(builder, operands[0]), strict=True)):
            place = builder.add(operands[3], builder.load(builder.gep(entries.data, [ir.Constant(_word, 4 * k + 3)])))
            row = _row_kind(kind)
            if isinstance(row, types.CPointer):
                parts.append(builder.inttoptr(place, context.get_value_type(row)))
                continue
            column = context.make_array(kind)(context, builder, value)
            array = context.make_array(row)(context, builder)
            shape, strides = (cgutils.unpack_tuple(builder, x)[1:] for x in (column.shape, column.strides))
            data = builder.inttoptr(place, array.data.type)
            arrayobj.populate_array(array, data, shape, strides, column.itemsize, None)
            parts.append(array._getvalue())
        whole = context.make_tuple(builder, kinds, [*parts, *cgutils.unpack_tuple(builder, operands[1])])
        slot = cgutils.alloca_once(builder, context.get_data_type(kinds))
        builder.store(context.data_model_manager[kinds].as_data(builder, whole), slot)
        return builder.ptrtoint(slot, _word)

    return types.int64(columns, common, table, base), build


def _restorer(columns: Any, common: Any) -> Any:
    """`restore(address)`: the arguments that `placed` has put there, for one lane."""
    kinds = types.Tuple([*map(_row_kind, columns), *common])
    given = types.Tuple([*(kind.dtype if kind.ndim == 1 else _row_kind(kind) for kind in columns), *common])

    def restore(typingctx, address):
        def build(context, builder, signature, operands):
            model = context.data_model_manager[kinds]
            slot = builder.inttoptr(operands[0], model.get_data_type().as_pointer())
            parts = cgutils.unpack_tuple(builder, model.from_data(builder, builder.load(slot)))
            for k, column in enumerate(columns):
                if column.ndim == 1:
                    stored = builder.load(mark_private(builder, parts[k]))
                    parts[k] = context.data_model_manager[column.dtype].from_data(builder, stored)
                else:
                    array = context.make_array(_row_kind(column))(context, builder, parts[k])
                    array.data = mark_private(builder, array.data)
                    parts[k] = array._getvalue()
            return borrowed(context, builder, given, context.make_tuple(builder, given, parts))

        return given(types.int64), build

    return intrinsic(restore)


def _entrance(lanes: int) -> Any:
    """`enter(address, ...)`: `program`, for all lanes."""

    def enter(typingctx, address, *given):
        if len(given) != len(PROGRAM) or None in map(typingctx.can_convert, given, PROGRAM):
            raise TypingError(f"a function of {PROGRAM} is called with {given}")

        def build(context, builder, signature, operands):
            operand = cgutils.unpack_tuple(builder, operands[1])
            values = [context.cast(builder, x, kind, to) for x, kind, to in zip(operand, given, PROGRAM, strict=True)]
            everyone = ir.Constant(_word, (1 << lanes) - 1)
            passed = [*context.get_arg_packer(PROGRAM).as_arguments(builder, values), everyone]
            kind = ir.FunctionType(_word, [value.type for value in passed])
            return builder.call(builder.inttoptr(operands[0], kind.as_pointer()), passed)

        return types.int64(types.int64, types.StarArgTuple(given)), build

    return intrinsic(enter)


@template
def share_out(enter):
    """The problems `begin` to `end`, `chunk` of them at a time, in lanes."""

    def share_out(
        X,
        G,
        numbers,
        counts,
        statuses,
        settings,
        first,
        second,
        begin,
        end,
        columns,
        common,
        table,
        room,
        calls,
        chunk,
    ):
        last, count = len(columns), -(-(end - begin) // chunk)
        for k in prange(count):
            memory, counter = np.empty(room, np.uint8), np.full(1, begin + k * chunk)
            base = -(-address(memory) // ALIGNED) * ALIGNED
            results = address(X), address(G), address(numbers), address(counts), address(statuses)
            here = address(counter), last, address(table), base
            enter(
                calls[0],
                *results,
                settings,
                address(first),
                address(second),
                X.shape[1],
                min(begin + (k + 1) * chunk, end),
                *here,
                base + table[last, 3],
                base + table[last, 2],
                calls[2],
                calls[1],
                placed(columns, common, table, base),
            )
            keep_alive(memory, counter)

    return share_out


@functools.cache
def _rows(lanes: int, parallel: bool) -> Callable:
    return over_user_functions(share_out.bind(enter=_entrance(lanes)), parallel)
