"""`exp`, `tanh`, `sigmoid`, `log`, `log1p` of scalars: one branch-free form for every target and every lane.

Numba calls the C library for these, once per element, and CUDA has its own versions with other last bits.  Here each
is a polynomial over `fma`, `mul` and `add` with integer arithmetic on the exponent: LLVM vectorises loops over it, and
CPU and CUDA agree in every bit.  float32 stays float32 throughout.

    exp(x)      x = n ln 2 + r, |r| <= ln(2)/2;  2^n (1 + r + r^2 P(r)), scaled in two steps so that results below
                the smallest normal number are rounded once
    tanh(x)     t/(t+2) with t = expm1(2|x|) = 2^n (e^r - 1) + (2^n - 1), and the sign of x
    sigmoid(x)  1/(1+e) for x >= 0 and e/(1+e) below, with e = exp(-|x|)
    log(x)      x = 2^k m, m in [sqrt(1/2), sqrt(2));  k ln 2 + log m by the series of 2 atanh(f/(2+f)), f = m - 1
    log1p(x)    log(u) + (x - (u-1))/u with u = 1 + x;  for finite x > -1

Largest errors in units of the last place, over the whole range (`tests/kernels/test_mathfuncs.py`): exp 1.1,
tanh 2.6, sigmoid 2.4, log 0.9, log1p 1.3.  NaN, infinities, overflow and subnormal numbers follow the C library.
The polynomials are minimax on their intervals (Remez exchange).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .jit import inlined, python_callable
from .rounding import add, div, fma, mul

__all__ = ["exp", "log", "log1p", "sigmoid", "smallest_normal", "tanh"]


class _Format:
    """A floating type: its bits, and the constants that depend on it."""

    def __init__(self, scalar: Any, integer: Any, kind: ir.Type, mantissa: int, bias: int) -> None:
        self.scalar, self.integer, self.kind = scalar, integer, kind
        self.bits = ir.IntType(np.dtype(scalar).itemsize * 8)
        self.mantissa, self.bias = mantissa, bias
        # Adding 1.5 * 2^mantissa rounds to an integer, which then stands in the low bits.
        self.magic = 1.5 * 2.0**mantissa
        self.magic_bits = int(scalar(self.magic).view(integer))
        self.sqrt_half_bits = int(scalar(math.sqrt(0.5)).view(integer))

    def constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.kind, float(self.scalar(value)))

    def integer_constant(self, value: int) -> ir.Constant:
        return ir.Constant(self.bits, value)


_FORMATS = {
    32: _Format(np.float32, np.int32, ir.FloatType(), 23, 127),
    64: _Format(np.float64, np.int64, ir.DoubleType(), 52, 1023),
}


def _operation(python: Callable, build: Callable) -> Any:
    """A function of one or two scalars of one floating type: `python(format, *operands)` from Python, and
    `build(builder, format, *operands)` in compiled code.
    """
    count = python.__code__.co_argcount - 1

    def typing(*operands):
        first = operands[0]
        if not isinstance(first, types.Float) or any(other != first for other in operands):
            raise TypingError(f"{python.__name__} needs operands of one floating type, got {operands}")
        layout = _FORMATS[first.bitwidth]
        return first(*operands), lambda context, builder, signature, values: build(builder, layout, *values)

    def unary(typingctx, a):
        return typing(a)

    def binary(typingctx, a, b):
        return typing(a, b)

    def call(*operands):
        first = operands[0]
        if not isinstance(first, np.floating):
            operands = tuple(map(np.float64, operands))
        layout = _FORMATS[operands[0].itemsize * 8]
        with np.errstate(all="ignore"):
            return layout.scalar(python(layout, *operands))

    return python_callable(intrinsic(unary if count == 1 else binary), functools.update_wrapper(call, python))


def _polynomial(name: str, single: tuple[float, ...], double: tuple[float, ...]) -> Any:
    """The polynomial with these coefficients, lowest first, by Horner's rule: `single` for float32 operands."""
    tables = {23: single, 52: double}

    def python(layout, x):
        first, *rest = (layout.scalar(c) for c in reversed(tables[layout.mantissa]))
        return functools.reduce(lambda sum_, c: fma(sum_, x, c), rest, first)

    def build(builder, layout, x):
        first, *rest = (layout.constant(c) for c in reversed(tables[layout.mantissa]))
        return functools.reduce(lambda sum_, c: builder.fma(sum_, x, c), rest, first)

    python.__name__ = name
    return _operation(python, build)


def _constant(name: str, single: float, double: float) -> Any:
    """A constant of the type of its argument, which has another value in float32 than in float64."""
    return _polynomial(name, (single,), (double,))


def _bits(layout: _Format, x: Any) -> int:
    return int(x.view(layout.integer))


def _float(layout: _Format, bits: int) -> Any:
    size = layout.bits.width
    return layout.integer((bits + (1 << size - 1)) % (1 << size) - (1 << size - 1)).view(layout.scalar)


def _copysign_python(layout, x, sign):
    return np.copysign(x, sign)


def _copysign_build(builder, layout, x, sign):
    top = 1 << layout.bits.width - 1
    magnitude = builder.and_(builder.bitcast(x, layout.bits), layout.integer_constant(top - 1))
    negative = builder.and_(builder.bitcast(sign, layout.bits), layout.integer_constant(top))
    return builder.bitcast(builder.or_(magnitude, negative), layout.kind)


def _half_power_python(layout, shifted, which):
    n = _bits(layout, shifted) - layout.magic_bits
    half = n >> 1
    return _float(layout, (layout.bias + (half if which == 0 else n - half)) << layout.mantissa)


def _half_power_build(builder, layout, shifted, which):
    n = builder.sub(builder.bitcast(shifted, layout.bits), layout.integer_constant(layout.magic_bits))
    half = builder.ashr(n, layout.integer_constant(1))
    # `which` is a constant where this is used: the selection is gone after compilation.
    first = builder.fcmp_ordered("==", which, layout.constant(0))
    exponent = builder.add(builder.select(first, half, builder.sub(n, half)), layout.integer_constant(layout.bias))
    return builder.bitcast(builder.shl(exponent, layout.integer_constant(layout.mantissa)), layout.kind)


def _exponent_python(layout, x):
    k = (_bits(layout, x) - layout.sqrt_half_bits) >> layout.mantissa
    return _float(layout, layout.magic_bits + k) - layout.scalar(layout.magic)


def _exponent_build(builder, layout, x):
    above = builder.sub(builder.bitcast(x, layout.bits), layout.integer_constant(layout.sqrt_half_bits))
    k = builder.ashr(above, layout.integer_constant(layout.mantissa))
    shifted = builder.bitcast(builder.add(k, layout.integer_constant(layout.magic_bits)), layout.kind)
    return builder.fsub(shifted, layout.constant(layout.magic))  # exact: fused with a neighbour it is the same


def _mantissa_python(layout, x):
    above = _bits(layout, x) - layout.sqrt_half_bits
    return _float(layout, _bits(layout, x) - (above >> layout.mantissa << layout.mantissa))


def _mantissa_build(builder, layout, x):
    bits = builder.bitcast(x, layout.bits)
    above = builder.sub(bits, layout.integer_constant(layout.sqrt_half_bits))
    shift = layout.integer_constant(layout.mantissa)
    return builder.bitcast(builder.sub(bits, builder.shl(builder.ashr(above, shift), shift)), layout.kind)


copysign = _operation(_copysign_python, _copysign_build)
# The number n in `shifted = magic + n` as a power of two, in two factors, since 2^n itself may be out of range:
# half_power(shifted, 0) * half_power(shifted, 1) = 2^n.
half_power = _operation(_half_power_python, _half_power_build)
# x = 2^exponent(x) * mantissa(x) for positive normal x, with the mantissa in [sqrt(1/2), sqrt(2)).
exponent = _operation(_exponent_python, _exponent_build)
mantissa = _operation(_mantissa_python, _mantissa_build)

_LN2_SINGLE = float(np.float32(math.log(2)))
_magic = _constant("magic", _FORMATS[32].magic, _FORMATS[64].magic)
_ln2_high = _constant("ln2_high", _LN2_SINGLE, math.log(2))
_ln2_low = _constant("ln2_low", math.log(2) - _LN2_SINGLE, 2.3190468138462996e-17)
_exp_least = _constant("exp_least", -104.0, -746.0)  # exp is 0 from here on down,
_exp_most = _constant("exp_most", 89.0, 710.0)  # and infinite from here on up
_tanh_most = _constant("tanh_most", 20.0, 40.0)  # tanh(x/2) is 1 from here on up
smallest_normal = _constant("smallest_normal", float(np.finfo(np.float32).tiny), float(np.finfo(np.float64).tiny))
_raise = _constant("raise", 2.0**24, 2.0**53)
_raised_by = _constant("raised_by", 24.0, 53.0)

# (e^r - 1 - r)/r^2 for |r| <= ln(2)/2
_expm1_tail = _polynomial(
    "expm1_tail",
    (0.50000000620813284, 0.16666542676908484, 0.041666281069078602, 0.0083666313575992431, 0.0013946531262266417),
    (
        0.49999999999999999,
        0.16666666666666676642,
        0.041666666666666701504,
        0.0083333333333215633845,
        0.001388888888886674713,
        0.00019841269886328162776,
        2.4801587360759022208e-05,
        2.7557243979122066668e-06,
        2.7557242573266390602e-07,
        2.5109125505587286806e-08,
        2.0924503775830804173e-09,
    ),
)
# (2 atanh(s) - 2 s)/s^3 as a function of s^2, for |s| <= (sqrt(2)-1)/(sqrt(2)+1)
_atanh_tail = _polynomial(
    "atanh_tail",
    (0.66666775572533940, 0.39977606961531087, 0.29870547522330944),
    (
        0.66666666666667306744,
        0.39999999999433429947,
        0.28571428739023526801,
        0.22222198861319326266,
        0.18183551575873359559,
        0.15314331648554110323,
        0.14793509395828982899,
    ),
)


@inlined
def exp(x):
    """`e^x`."""
    T = type(x)
    # Written so that a NaN passes through both comparisons.
    bounded = _exp_least(x) if x < _exp_least(x) else x
    bounded = _exp_most(x) if bounded > _exp_most(x) else bounded
    shifted = fma(bounded, T(1.4426950408889634), _magic(x))
    n = add(shifted, -_magic(x))
    r = fma(-n, _ln2_low(x), fma(-n, _ln2_high(x), bounded))
    power = add(fma(mul(r, r), _expm1_tail(r), r), T(1))
    return mul(mul(power, half_power(shifted, T(0))), half_power(shifted, T(1)))


@inlined
def tanh(x):
    """`(e^x - e^-x)/(e^x + e^-x)`, exactly odd."""
    T = type(x)
    twice = mul(T(2), copysign(x, T(1)))
    twice = _tanh_most(x) if twice > _tanh_most(x) else twice
    shifted = fma(twice, T(1.4426950408889634), _magic(x))
    n = add(shifted, -_magic(x))
    r = fma(-n, _ln2_low(x), fma(-n, _ln2_high(x), twice))
    tail = fma(mul(r, r), _expm1_tail(r), r)
    power = mul(half_power(shifted, T(0)), half_power(shifted, T(1)))
    expm1 = fma(power, tail, add(power, T(-1)))
    return copysign(div(expm1, add(expm1, T(2))), x)


@inlined
def sigmoid(x):
    """`1/(1 + e^-x)`."""
    T = type(x)
    e = exp(-copysign(x, T(1)))
    return div(e if x < T(0) else T(1), add(T(1), e))


@inlined
def log(x):
    """The natural logarithm: -inf at 0, NaN below."""
    T = type(x)
    subnormal = x < smallest_normal(x)
    scaled = mul(x, _raise(x)) if subnormal else x
    k = add(exponent(scaled), -_raised_by(x) if subnormal else T(0))
    f = add(mantissa(scaled), T(-1))  # exact
    s = div(f, add(f, T(2)))
    z = mul(s, s)
    # log(1+f) = f - f^2/2 + s (f^2/2 + z P(z)): the first term is exact, the others are small
    half_square = mul(mul(T(0.5), f), f)
    correction = fma(s, fma(z, _atanh_tail(z), half_square), mul(k, _ln2_low(x)))
    result = fma(k, _ln2_high(x), add(f, add(correction, -half_square)))
    result = result if x < T(math.inf) else x  # infinity and NaN
    result = result if x != T(0) else T(-math.inf)
    return T(math.nan) if x < T(0) else result


@inlined
def log1p(x):
    """`log(1 + x)` for finite `x > -1`."""
    u = add(type(x)(1), x)
    lost = add(x, -add(u, type(x)(-1)))
    return add(log(u), div(lost, u))


@inlined
def flush_subnormal(v):
    """`v`, or 0 where it is subnormal.

    The velocity of a weight whose gradient has become 0 halves every few steps until it is subnormal, and stays so for
    a hundred steps, in which processors need ten times as long for its arithmetic.
    """
    T = type(v)
    return T(0) if copysign(v, T(1)) < smallest_normal(v) else v
