"""What a function that is to run in lanes says of itself: calls that mean something to `vectorize` alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.callconv import RETCODE_EXC
from numba.extending import intrinsic

from . import analysis, memory, target

_word, _pointer, _byte = ir.IntType(64), cgutils.voidptr_t, ir.IntType(8)


def _called(builder: Any, name: str, returned: Any, values: list[Any]) -> Any:
    kind = ir.FunctionType(returned, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name[1:]), values)


def mark_private(builder: Any, place: Any) -> Any:
    """LLVM code for `private`."""
    marked = _called(builder, memory.PRIVATE_MARK, _pointer, [builder.bitcast(place, _pointer)])
    return builder.bitcast(marked, place.type)


@intrinsic
def private(typingctx, place):
    """A pointer to memory with room for all lanes, in which each has its own elements."""
    return place(place), lambda context, builder, signature, operands: mark_private(builder, operands[0])


@intrinsic
def take(typingctx, counter):
    """The next number of the counter at an address."""

    def build(context, builder, signature, operands):
        return _called(builder, analysis.TAKE, _word, [builder.inttoptr(operands[0], _pointer)])

    return types.int64(types.int64), build


@intrinsic
def evaluation(typingctx, address, given):
    """What `evaluate` calls and with what: the address of a function made by `in_lanes`, and its arguments but the last
    one, a boolean, which `evaluate` has.
    """

    def build(context, builder, signature, operands):
        values = cgutils.unpack_tuple(builder, operands[1])
        passed = [
            builder.bitcast(value, _pointer)
            if isinstance(kind, types.CPointer)
            else context.data_model_manager[kind].as_argument(builder, value)
            for kind, value in zip(given, values, strict=True)
        ]
        _called(builder, analysis.EVALUATION, ir.VoidType(), [operands[0], *passed])
        return context.get_dummy_value()

    return types.void(types.int64, given), build


@intrinsic
def evaluate(typingctx, wanted):
    """Evaluate; where that fails it is an exception."""

    def build(context, builder, signature, operands):
        failed = _called(builder, analysis.EVALUATE, _word, [builder.zext(operands[0], _byte)])
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, failed)):
            builder.ret(RETCODE_EXC)
        return context.get_dummy_value()

    return types.void(types.boolean), build


def attempted(function: Callable, otherwise: int) -> Any:
    """`attempt(...)`: the whole number that an `@njit` function returns, or `otherwise` where it raises."""
    dispatcher: Any = target.here(function)

    def attempt(typingctx, *given):
        dispatcher.compile(tuple(given))
        made = dispatcher.overloads[tuple(given)]

        def build(context, builder, signature, operands):
            context.active_code_library.add_linking_library(made.library)
            called = context.declare_function(builder.module, made.fndesc)
            values, what = cgutils.unpack_tuple(builder, operands[0]), made.fndesc
            status, returned = context.call_conv.call_function(builder, called, what.restype, what.argtypes, values)
            return builder.select(status.is_error, context.get_constant(types.int64, otherwise), returned)

        return types.int64(types.StarArgTuple(given)), build

    return intrinsic(attempt)


def written(function: Callable, kinds: tuple[Any, ...]) -> tuple[str, str]:
    """What Numba wrote of a function for arguments of these types, and its name there."""
    dispatcher = target.jit(no_cfunc_wrapper=True, no_cpython_wrapper=True)(function)
    dispatcher.compile(kinds)
    (made,) = dispatcher.overloads.values()
    return str(made.library.written), made.fndesc.llvm_func_name
