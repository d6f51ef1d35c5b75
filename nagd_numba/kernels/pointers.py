"""Bare addresses of arrays, and access through them that LLVM vectorises without checks."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import python_callable


def _pointer(typingctx, x):
    def build(context, builder, signature, operands):
        return context.make_array(signature.args[0])(context, builder, operands[0]).data

    return types.CPointer(x.dtype)(x), build


def _pointer_python(x):
    return x.reshape(-1)


pointer = python_callable(intrinsic(_pointer), _pointer_python)

STREAMS = 3  # memory that the loops over a tile go through at once


def _peek(typingctx, x, i, stream):
    """Element `i`, from memory that no other stream writes to: LLVM then vectorises without checks."""
    number = stream.literal_value

    def build(context, builder, signature, operands):
        loaded = builder.load(builder.gep(operands[0], [operands[1]]))
        _apart(builder, loaded, number)
        return loaded

    return x.dtype(x, types.int64, stream), build


def _poke(typingctx, x, i, value, stream):
    """`x[i] = value`; see `_peek`."""
    number = stream.literal_value

    def build(context, builder, signature, operands):
        stored = builder.store(operands[2], builder.gep(operands[0], [operands[1]]))
        _apart(builder, stored, number)
        return context.get_dummy_value()

    return types.void(x, types.int64, value, stream), build


def _apart(builder: Any, instruction: Any, stream: int) -> None:
    """Tell LLVM that the streams do not overlap."""
    module = builder.module
    domain = module.add_metadata([ir.MetaDataString(module, "tile")])
    scopes = [module.add_metadata([ir.MetaDataString(module, f"stream {k}"), domain]) for k in range(STREAMS)]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[stream]]))
    instruction.set_metadata("noalias", module.add_metadata([s for k, s in enumerate(scopes) if k != stream]))


def _peek_python(x, i, stream):
    return x[i]


def _poke_python(x, i, value, stream):
    x[i] = value


peek = python_callable(intrinsic(prefer_literal=True)(_peek), _peek_python)
poke = python_callable(intrinsic(prefer_literal=True)(_poke), _poke_python)
