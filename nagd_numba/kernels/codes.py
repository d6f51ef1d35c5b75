"""States of 8 bits: blocks of 32 codes with one float32 scale, from which the values are made anew in each step.

int8 codes are for states that enter the parameters linearly (velocities, first moments).  With the block's largest
magnitude `M` the scale is `M/127`, and a value is `code * scale`.  The code of `x = value 127/M` is `floor(x + u)`, `u`
being uniform in (0, 1) (16 random bits): the mean of the decoded values is the value.  That matters, since a velocity
adds up: rounding to nearest would drop, at every step, whatever is below half a unit of its block's largest element,
and a small gradient beside a large one would never gain any momentum.  With unbiased rounding a linear recursion
`v <- mu v + g` keeps its expectation, and its variance stays below `scale^2 / (4 (1 - mu^2))`.

uint8 codes are for states that are never negative and enter by their square root in a denominator (second moments).
The scale is `sqrt(M)/255`, and a value `(code * scale)^2`: the square root has the range that a code needs.  A code is
rounded down or up with the probabilities that make the mean of the *values* (not of their roots) right, since it is the
values that are averaged from step to step; rounding the roots without bias would add up to `scale^2 / (4 (1 - beta2))`
to the average.  No value but 0 gets the code 0: a root is stored as less than itself by less than one scale, and never
as less than half of itself, so that no quotient by it is more than doubled.

    int8    |decoded - value| < scale (1 + 2^-15);    |mean - value| < 2^-16 scale
    uint8   |sqrt(decoded) - sqrt(value)| < scale (1 + 2^-10);  sqrt(decoded) > sqrt(value)/2;
            |mean - value| < 2^-14 scale sqrt(M) for values >= scale^2; smaller ones but 0 become scale^2

In a block whose largest magnitude is below `LEAST` all values become 0.  One that is not finite makes those of its
whole block infinite or NaN.

What is here works on scalars and on vectors of LLVM, so that the CPU's kernels (a block at once) and CUDA's (a lane for
an element) do the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from .rounding import fma

BLOCK = 32
LEAST = 2.0**-100

_I8, _I32, _FLOAT = ir.IntType(8), ir.IntType(32), ir.FloatType()
_MAGIC = 1.5 * 2.0**23  # adding it rounds to an integer, which then stands in the low bits
_MAGIC_BITS = int(np.float32(_MAGIC).view(np.int32))
_LEAST_BITS = int(np.float32(LEAST).view(np.int32))
# The code of a block's largest, with its fraction: that much below 127, that no rounding goes beyond it.
_INT8 = float(np.float32(127 * (1 - 2.0**-20)))
_UINT8 = 255.0
_PER_INT8, _PER_UINT8 = float(np.float32(1 / _INT8)), float(np.float32(1 / _UINT8))


def is_code(kind: types.Type) -> bool:
    """Is it the type of codes?"""
    return kind in (types.int8, types.uint8)


class Arithmetic:
    """Operations on float32 that are rounded as `kernels.rounding` says, on scalars or vectors of one length."""

    def __init__(self, builder: Any, like: Any) -> None:
        self.builder = builder
        self.count = like.count if isinstance(like, ir.VectorType) else 0
        self.float = self._kind(_FLOAT)
        self.int = self._kind(_I32)
        self._cuda = builder.module.triple.startswith("nvptx")

    def _kind(self, kind: Any) -> Any:
        return ir.VectorType(kind, self.count) if self.count else kind

    def constant(self, value: float | int) -> ir.Constant:
        kind = _FLOAT if isinstance(value, float) else _I32
        return ir.Constant(self._kind(kind), [value] * self.count if self.count else value)

    def _call(self, name: str, *operands: Any) -> Any:
        suffix = f"v{self.count}f32" if self.count else "f32"
        full = f"llvm.nvvm.{name}.rn.f" if self._cuda else f"llvm.{name}.{suffix}"
        signature = ir.FunctionType(self.float, [self.float] * len(operands))
        return self.builder.call(self.builder.module.declare_intrinsic(full, (), signature), operands)

    def mul(self, a: Any, b: Any) -> Any:
        return self._call("mul", a, b) if self._cuda else self.builder.fmul(a, b)

    def add(self, a: Any, b: Any) -> Any:
        return self._call("add", a, b) if self._cuda else self.builder.fadd(a, b)

    def div(self, a: Any, b: Any) -> Any:
        return self._call("div", a, b) if self._cuda else self.builder.fdiv(a, b)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self._call("fma", a, b, c)

    def sqrt(self, a: Any) -> Any:
        return self._call("sqrt", a)

    def clamped(self, x: Any, low: int, high: int) -> Any:
        b = self.builder
        x = b.select(b.icmp_signed("<", x, self.constant(low)), self.constant(low), x)
        return b.select(b.icmp_signed(">", x, self.constant(high)), self.constant(high), x)


def emit_magnitude(builder: Any, value: Any) -> Any:
    """The bits of magnitudes, which are ordered as they are; NaN is above infinity."""
    do = Arithmetic(builder, value.type)
    return builder.and_(builder.bitcast(value, do.int), do.constant(0x7FFFFFFF))


def emit_scale(builder: Any, kind: types.Type, peak: Any) -> tuple[Any, Any]:
    """The scale of a block by the bits of its largest magnitude, and what values are multiplied with."""
    do = Arithmetic(builder, peak.type)
    usable = builder.icmp_signed(">=", peak, do.constant(_LEAST_BITS))
    largest = builder.bitcast(peak, do.float)
    if kind == types.uint8:
        scale = do.mul(do.sqrt(largest), do.constant(_PER_UINT8))
        inverse = do.div(do.constant(_UINT8 * _UINT8), largest)
    else:
        scale = do.mul(largest, do.constant(_PER_INT8))
        inverse = do.div(do.constant(_INT8), largest)
    nothing = do.constant(0.0)
    return builder.select(usable, scale, nothing), builder.select(usable, inverse, nothing)


def emit_code(builder: Any, kind: types.Type, value: Any, inverse: Any, random: Any) -> Any:
    """Codes of values, in the low 8 bits of integers; `random` has 16 random bits in its upper half."""
    do = Arithmetic(builder, value.type)
    magic = do.constant(_MAGIC)
    if kind == types.int8:
        signed = builder.sitofp(builder.ashr(random, do.constant(16)), do.float)
        shift = do.fma(signed, do.constant(2.0**-16), do.constant(2.0**-17))  # u - 1/2
        return builder.bitcast(do.add(do.fma(value, inverse, shift), magic), do.int)
    x = do.mul(value, inverse)
    unsigned = builder.sitofp(builder.lshr(random, do.constant(16)), do.float)
    u = do.fma(unsigned, do.constant(2.0**-16), do.constant(2.0**-17))
    rounded = do.add(do.add(do.sqrt(x), do.constant(-0.5)), magic)  # the root without its fraction
    root = do.add(rounded, do.constant(-_MAGIC))
    minus = builder.fsub(do.constant(-0.0), root)  # NVVM does not know fneg
    over = do.fma(minus, root, x)  # of 2 root + 1 up to the next square
    up = builder.fcmp_ordered(">", over, do.mul(u, do.fma(do.constant(2.0), root, do.constant(1.0))))
    code = builder.sub(builder.bitcast(rounded, do.int), do.constant(_MAGIC_BITS))
    code = do.clamped(builder.add(code, builder.zext(up, do.int)), 1, 255)
    return builder.select(builder.fcmp_ordered("==", x, do.constant(0.0)), do.constant(0), code)


def emit_decoded(builder: Any, kind: types.Type, code: Any, scale: Any) -> Any:
    """The value of a code that came from memory."""
    do = Arithmetic(builder, scale.type)
    if kind == types.int8:
        return do.mul(builder.sitofp(builder.sext(code, do.int), do.float), scale)
    root = do.mul(builder.sitofp(builder.zext(code, do.int), do.float), scale)
    return do.mul(root, root)


# The same by NumPy, where nothing is compiled, and for users who want to see the values.


def encoded(values: np.ndarray, dtype: np.dtype, random: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """The codes of the float32 values of a block, and their scale; `random` has random bits in its upper halves."""
    one = np.float32
    with np.errstate(all="ignore"):
        peak = (values.view(np.int32) & 0x7FFFFFFF).max().astype(np.int32)
        largest = peak.view(np.float32)
        if peak < _LEAST_BITS:
            scale = inverse = one(0)
        elif dtype == np.uint8:
            scale, inverse = np.sqrt(largest) * one(_PER_UINT8), one(_UINT8 * _UINT8) / largest
        else:
            scale, inverse = largest * one(_PER_INT8), one(_INT8) / largest
        magic = one(_MAGIC)
        if dtype == np.int8:
            shift = (random.view(np.int32) >> 16).astype(one) * one(2.0**-16) + one(2.0**-17)
            return (_fma(values, inverse, shift) + magic).view(np.int32).astype(np.int8), scale
        x = values * inverse
        u = (random >> np.uint32(16)).astype(one) * one(2.0**-16) + one(2.0**-17)
        rounded = (np.sqrt(x) + one(-0.5)) + magic
        root = rounded - magic
        over = _fma(-root, root, x)
        code = rounded.view(np.int32) - _MAGIC_BITS + (over > u * (one(2) * root + one(1)))
        return np.where(x == 0, 0, np.clip(code, 1, 255)).astype(np.uint8), scale


def _fma(a: np.ndarray, b: Any, c: np.ndarray) -> np.ndarray:
    return np.array([fma(x, y, z) for x, y, z in np.broadcast(a, b, c)], np.float32)


def decoded(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The values of vectors of codes and of scales, as float32."""
    with np.errstate(all="ignore"):
        scaled = codes.astype(np.float32) * np.repeat(scales, BLOCK)[: codes.size]
        return scaled * scaled if codes.dtype == np.uint8 else scaled
