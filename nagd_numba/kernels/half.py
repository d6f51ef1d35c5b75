"""float16 and bfloat16: numbers of 16 bits in memory, float32 in arithmetic.

NumPy has no bfloat16 and Numba's CPU target no float16, so both are integers of 16 bits to compiled code, told apart
by their sign: int16 is float16, uint16 is bfloat16 (`STORAGE`).

    widen             the float32 of the same value, exactly
    narrow            rounded to nearest, ties to even; beyond the largest number infinity; NaN stays NaN
    narrow_at_random  rounded down or up to a neighbour, up with the probability that makes the mean the value itself

`narrow_at_random(x, r)` takes the low 16 bits of `r`.  Both formats keep the upper bits of a float32's mantissa, so
that adding random bits below them and cutting them off rounds at random: with `d` bits cut off, uniform `r` below
2^d and a value `f 2^-d` of the way to the next neighbour (f whole), `f + r` carries in `f` of the `2^d` cases.  The
mean is therefore exact for every bfloat16 (d = 16), and for float16 from its smallest normal number on (d = 13).  Below
that its numbers are the multiples of 2^-24; there 16 bits are looked at, and the mean is at most 2^-40 nearer to 0
than the value.  The result is always one of the two neighbours: |error| < 1 unit in the last place.  Beyond the
largest number the upper neighbour is infinity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

STORAGE: dict[str, Any] = {  # Numba's type of the elements in memory
    "float32": types.float32,
    "float64": types.float64,
    "float16": types.int16,
    "bfloat16": types.uint16,
}
BITS_OF = {"float16": np.dtype(np.int16), "bfloat16": np.dtype(np.uint16)}  # the dtype of arrays for compiled code

_I16, _I32, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()
_SIGN, _INFINITE, _QUIET = 0x80000000, 0x7F800000, 0x400000
_REBIAS = (127 - 15) << 23  # between the exponents of float32 and float16, in the place of the former
_NORMAL = (127 - 14) << 23  # the smallest normal float16
_HALF_BITS = 0x3F000000  # those of 0.5, whose unit in the last place is that of float16's smallest numbers


def is_half(kind: types.Type) -> bool:
    """Is it the type of a number of 16 bits in memory?"""
    return kind in (types.int16, types.uint16)


def _on_cuda(builder: Any) -> bool:
    return bool(builder.module.triple.startswith("nvptx"))


def _i32(value: int) -> ir.Constant:
    return ir.Constant(_I32, value)


def emit_widen(builder: Any, kind: types.Type, value: Any) -> Any:
    """An element as it came from memory, in the type of the arithmetic."""
    if kind == types.int16:
        if _on_cuda(builder):
            return builder.fpext(builder.bitcast(value, ir.HalfType()), _FLOAT)
        return _widen_float16(builder, value)
    if kind == types.uint16:
        return builder.bitcast(builder.shl(builder.zext(value, _I32), _i32(16)), _FLOAT)
    return value


def emit_narrow(builder: Any, kind: types.Type, value: Any) -> Any:
    """An element as it goes to memory: rounded to nearest, ties to even."""
    if kind == types.int16:
        if _on_cuda(builder):
            return builder.bitcast(builder.fptrunc(value, ir.HalfType()), _I16)
        return _narrow_float16(builder, value, None)
    if kind == types.uint16:
        bits = builder.bitcast(value, _I32)
        odd = builder.and_(builder.lshr(bits, _i32(16)), _i32(1))
        return _upper_half(builder, value, bits, builder.add(odd, _i32(0x7FFF)))
    return value


def emit_narrow_at_random(builder: Any, kind: types.Type, value: Any, random: Any) -> Any:
    """The same, rounded by random bits: the low 16 of an integer of 32."""
    random = builder.and_(random, _i32(0xFFFF))
    if kind == types.int16:
        return _narrow_float16(builder, value, random)
    if kind == types.uint16:
        return _upper_half(builder, value, builder.bitcast(value, _I32), random)
    return value


def _upper_half(builder: Any, value: Any, bits: Any, added: Any) -> Any:
    # The carry would make infinity of some NaN: those keep their upper bits, and a bit of the quiet ones.
    quiet = builder.or_(bits, _i32(_QUIET))
    chosen = builder.select(builder.fcmp_unordered("uno", value, value), quiet, builder.add(bits, added))
    return builder.trunc(builder.lshr(chosen, _i32(16)), _I16)


# LLVM's own conversions of float16 are calls of a library on processors without F16C, and a call in a loop keeps it
# from being vectorised: these are arithmetic.


def _widen_float16(builder: Any, value: Any) -> Any:
    bits = builder.zext(value, _I32)
    magnitude = builder.shl(builder.and_(bits, _i32(0x7FFF)), _i32(13))
    rebiased = builder.add(magnitude, _i32(_REBIAS))
    # Subnormal: a normal number with that mantissa, less its leading bit.
    padded = builder.bitcast(builder.add(rebiased, _i32(1 << 23)), _FLOAT)
    small = builder.fsub(padded, builder.bitcast(_i32(_NORMAL), _FLOAT))
    special = builder.add(rebiased, _i32(_REBIAS))
    is_small = builder.icmp_unsigned("<", magnitude, _i32(1 << 23))
    is_special = builder.icmp_unsigned(">=", magnitude, _i32(31 << 23))
    made = builder.select(is_small, builder.bitcast(small, _I32), builder.select(is_special, special, rebiased))
    sign = builder.shl(builder.and_(bits, _i32(0x8000)), _i32(16))
    return builder.bitcast(builder.or_(made, sign), _FLOAT)


def _narrow_float16(builder: Any, value: Any, random: Any) -> Any:
    """To nearest where there are no random bits."""
    bits = builder.bitcast(value, _I32)
    magnitude = builder.and_(bits, _i32(_SIGN - 1))
    size = builder.bitcast(magnitude, _FLOAT)
    if random is None:
        odd = builder.and_(builder.lshr(magnitude, _i32(13)), _i32(1))
        added = builder.add(odd, _i32(0xFFF))
        sum_ = builder.fadd(size, ir.Constant(_FLOAT, 0.5))
        small = builder.sub(builder.bitcast(sum_, _I32), _i32(_HALF_BITS))
    else:
        added = builder.lshr(random, _i32(3))
        whole = builder.fptosi(builder.fmul(size, ir.Constant(_FLOAT, 2.0**40)), _I32)
        small = builder.lshr(builder.add(whole, random), _i32(16))
    normal = builder.lshr(builder.sub(builder.add(magnitude, added), _i32(_REBIAS)), _i32(13))
    is_nan = builder.icmp_unsigned(">", magnitude, _i32(_INFINITE))
    special = builder.select(is_nan, _i32(0x7E00), _i32(0x7C00))
    is_small = builder.icmp_unsigned("<", magnitude, _i32(_NORMAL))
    is_special = builder.icmp_unsigned(">=", magnitude, _i32((127 + 16) << 23))
    made = builder.select(is_small, small, builder.select(is_special, special, normal))
    sign = builder.lshr(builder.and_(bits, _i32(_SIGN)), _i32(16))
    return builder.trunc(builder.or_(made, sign), _I16)


# The same for arrays of NumPy, where nothing is compiled; elements of 16 bits have a dtype of `BITS_OF`.


def widened(bits: np.ndarray) -> np.ndarray:
    """Elements as float32; those of other dtypes as they are."""
    if bits.dtype == np.int16:
        return bits.view(np.float16).astype(np.float32)
    if bits.dtype == np.uint16:
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits


def narrowed(x: np.ndarray, dtype: np.dtype, random: np.ndarray | None = None) -> np.ndarray:
    """float32 rounded to nearest, or by random bits (uint32); other dtypes as they are."""
    if dtype not in BITS_OF.values():
        return x
    bits = x.view(np.uint32)
    if random is not None:
        random = random & np.uint32(0xFFFF)
    if dtype == np.uint16:
        added = np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)) if random is None else random
        chosen = np.where(np.isnan(x), bits | np.uint32(_QUIET), bits + added)
        return (chosen >> np.uint32(16)).astype(np.uint16)
    with np.errstate(all="ignore"):
        if random is None:
            return x.astype(np.float16).view(np.int16)
        magnitude = bits & np.uint32(_SIGN - 1)
        size = magnitude.view(np.float32)
        whole = np.where(magnitude < _NORMAL, size * np.float32(2.0**40), np.float32(0)).astype(np.uint32)
        small = (whole + random) >> np.uint32(16)
        normal = (magnitude + (random >> np.uint32(3)) - np.uint32(_REBIAS)) >> np.uint32(13)
        special = np.where(magnitude > _INFINITE, np.uint32(0x7E00), np.uint32(0x7C00))
        made = np.where(magnitude < _NORMAL, small, np.where(magnitude >= (127 + 16) << 23, special, normal))
        return (made | (bits & np.uint32(_SIGN)) >> np.uint32(16)).astype(np.uint16).view(np.int16)
