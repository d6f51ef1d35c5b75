"""`fma`, `mul`, `add`, `div`, `sqrt`: floating-point operations that round exactly where they say.

A compiler may fuse `a * b + c` into one rounding or keep two, and NVVM and LLVM choose differently.  The update
rules therefore name every rounding:

    fma(a, b, c)   a*b + c, rounded once
    mul(a, b)      a*b, rounded, never fused into a neighbour
    add(a, b)      a+b, rounded, never fused into a neighbour
    div(a, b)      a/b, rounded; by zero an infinity or NaN
    sqrt(a)        the square root, rounded; NaN below zero

Each can be called from Python (as the CUDA simulator does, and everything with the JIT off) and is, in compiled
code, one instruction: on the CPU LLVM's `fma`, `fmul`, `fadd`, `fdiv` and `sqrt`, which LLVM never contracts nor
approximates without fast-math; on CUDA `fma.rn`, `mul.rn`, `add.rn`, `div.rn` and `sqrt.rn`, which NVVM must not
either.  All operands have one floating type.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .jit import python_callable

__all__ = ["add", "div", "fma", "mul", "sqrt"]


def _rounded(python: Callable, build: Callable) -> Any:
    """The operation `python` on scalars, which `build(builder, operands)` emits in compiled code."""
    name = python.__name__

    def typing(first, others):
        if not isinstance(first, types.Float) or any(other != first for other in others):
            raise TypingError(
                f"nagd_numba.kernels.rounding.{name} needs operands of one floating type, got "
                f"({', '.join(map(str, (first, *others)))}); cast them to the type of the arrays: type(p)(x)"
            )
        return first(first, *others), lambda context, builder, signature, operands: build(builder, operands)

    def unary(typingctx, a):
        return typing(a, ())

    def binary(typingctx, a, b):
        return typing(a, (b,))

    def ternary(typingctx, a, b, c):
        return typing(a, (b, c))

    operation: Any = {1: unary, 2: binary, 3: ternary}[python.__code__.co_argcount]
    return python_callable(intrinsic(operation), python)


def _on_cuda(builder: Any) -> bool:
    return builder.module.triple.startswith("nvptx")


def _pinned(builder: Any, operation: str, operands: Any) -> Any:
    """Call `llvm.nvvm.<operation>.rn`, the form of an operation that NVVM leaves alone."""
    kind = operands[0].type
    suffix = "f" if kind == ir.FloatType() else "d"
    signature = ir.FunctionType(kind, [kind] * len(operands))
    return builder.call(builder.module.declare_intrinsic(f"llvm.nvvm.{operation}.rn.{suffix}", (), signature), operands)


def _build_fma(builder, operands):
    return builder.fma(*operands)


def _build_mul(builder, operands):
    return _pinned(builder, "mul", operands) if _on_cuda(builder) else builder.fmul(*operands)


def _build_add(builder, operands):
    return _pinned(builder, "add", operands) if _on_cuda(builder) else builder.fadd(*operands)


def _build_div(builder, operands):
    # Numba's own division first looks for a zero, and that branch keeps a loop from being vectorised.
    return _pinned(builder, "div", operands) if _on_cuda(builder) else builder.fdiv(*operands)


def _build_sqrt(builder, operands):
    if _on_cuda(builder):
        return _pinned(builder, "sqrt", operands)
    kind = operands[0].type
    return builder.call(builder.module.declare_intrinsic("llvm.sqrt", (kind,)), operands)


def _fma(a, b, c):
    """`a*b + c` with a single rounding."""
    with np.errstate(all="ignore"):
        if type(a) is np.float32:
            return _fma32(a, b, c)
        return type(a)(_fma64(float(a), float(b), float(c)))


def _mul(a, b):
    """`a*b`, rounded."""
    if a.__class__ is b.__class__ is float:
        return a * b
    with np.errstate(all="ignore"):
        return a * b


def _add(a, b):
    """`a+b`, rounded."""
    if a.__class__ is b.__class__ is float:
        return a + b
    with np.errstate(all="ignore"):
        return a + b


def _div(a, b):
    """`a/b`, rounded."""
    with np.errstate(all="ignore"):
        return np.divide(a, b)


def _sqrt(a):
    """The square root of `a`, rounded."""
    if a.__class__ is float and a >= 0.0:
        return math.sqrt(a)
    with np.errstate(all="ignore"):
        return np.sqrt(a)


def _fma32(a, b, c):
    product = np.float64(a) * np.float64(b)  # exact: 24 + 24 <= 53 bits
    total = product + np.float64(c)
    virtual = total - product
    error = (product - (total - virtual)) + (np.float64(c) - virtual)
    if error != 0 and np.isfinite(total):
        # Round the sum to odd: 53 >= 24 + 2 bits, so the second rounding, to float32, is then the only one.
        bits = int(total.view(np.int64))
        if bits & 1 == 0:
            bits += 1 if (error > 0) == (total > 0) else -1
        total = np.int64(bits).view(np.float64)
    return np.float32(total)


def _fma64(a, b, c):
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return float(np.float64(a) * np.float64(b) + np.float64(c))
    (m, d), (n, e), (k, f) = a.as_integer_ratio(), b.as_integer_ratio(), c.as_integer_ratio()
    exact = m * n * f + k * d * e
    if exact == 0:
        return a * b + c  # only the sign of zero is at stake, and no rounding
    try:
        return exact / (d * e * f)  # the quotient of two ints is rounded once
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


fma = _rounded(_fma, _build_fma)
mul = _rounded(_mul, _build_mul)
add = _rounded(_add, _build_add)
div = _rounded(_div, _build_div)
sqrt = _rounded(_sqrt, _build_sqrt)
