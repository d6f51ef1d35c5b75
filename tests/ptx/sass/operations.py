"""What the instructions of Hopper compute: for each, a function that makes a closure over its operands.

From NVIDIA's names of the instructions (CUDA binary utilities) and what compiled code does with them; that the results
are those of the CPU is the test.  Anything else raises `NotImplementedError` with the instruction.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import vectorize

from nagd_numba.kernels.rounding import fma

from .listing import Instruction
from .registers import Registers

Run = Callable[[np.ndarray], None]
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


@vectorize(["float32(float32, float32, float32)", "float64(float64, float64, float64)"])
def fused(a, b, c):
    return fma(a, b, c)


COMPARISONS: dict[str, Callable] = {
    "LT": operator.lt,
    "GT": operator.gt,
    "LE": operator.le,
    "GE": operator.ge,
    "EQ": operator.eq,
    "NE": operator.ne,
}
COMBINED: dict[str, Callable] = {"AND": operator.and_, "OR": operator.or_, "XOR": operator.xor}
IGNORED = frozenset({"FTZ", "REL", "NOINC", "U32", "MMA", "NTZ", "S32"})


def _is_predicate(text: str) -> bool:
    return text.lstrip("!U").startswith("P") and not text.startswith("PR")


def _split(operands: tuple[str, ...]) -> tuple[str, list[str], list[str], list[str]]:
    """Target, predicates that are written behind it, sources, predicates that are read."""
    target, rest = operands[0], list(operands[1:])
    out = []
    while _is_predicate(rest[0]):
        out.append(rest.pop(0))
    sources = [x for x in rest if not _is_predicate(x)]
    return target, out, sources, [x for x in rest if _is_predicate(x)]


def _carries(r: Registers, i: Instruction, total: Callable[[], Any], width: int = 32) -> Run:
    """Write a sum, and whether it is beyond 32 bits (twice beyond)."""
    target, out, _, _ = _split(i.operands)
    write, carries = r.to(target), [r.to(x) for x in out]

    def run(mask: np.ndarray) -> None:
        value = total()
        write((value & _LOW).astype(np.uint32), mask)
        for k, carry in enumerate(carries):
            carry((value >> _32) > np.uint64(k), mask)

    return run


def iadd3(r: Registers, i: Instruction) -> Run:
    _, _, sources, into = _split(i.operands)
    a, b, c = (r.integer(x) for x in sources)
    carries = [r.predicate(x) for x in into] if "X" in i.modifiers else []

    def total() -> Any:
        value = a() + b() + c()
        for carry in carries:
            value = value + carry().astype(np.uint64)
        return value

    return _carries(r, i, total)


def viadd(r: Registers, i: Instruction) -> Run:
    a, b, write = r.integer(i.operands[1]), r.integer(i.operands[2]), r.to(i.operands[0])
    return lambda mask: write(((a() + b()) & _LOW).astype(np.uint32), mask)


def minmax(r: Registers, i: Instruction) -> Run:
    """The lesser or the greater of a number, or of a sum of two, and another."""
    write, least = r.to(i.operands[0]), r.predicate(i.operands[-1])
    *first, second = (r.word(x) for x in i.operands[1:-1])
    unsigned = "U32" in i.modifiers

    def run(mask: np.ndarray) -> None:
        x = first[0]() + first[1]() if len(first) == 2 else first[0]()
        y = second()
        less = x < y if unsigned else _signed(x) < _signed(y)
        write(np.where(less == least(), x, y), mask)

    return run


def _signed(x: Any) -> Any:
    return np.asarray(x).astype(np.uint32).view(np.int32).astype(np.int64)


def imad(r: Registers, i: Instruction) -> Run:
    target, out, sources, into = _split(i.operands)
    unsigned = "U32" in i.modifiers
    if "WIDE" in i.modifiers or "HI" in i.modifiers:
        a, b = r.word(sources[0]), r.word(sources[1])
        c = r.integer(sources[2], pair=True)
        assert not out, str(i)
        assert not into, str(i)
        high = "HI" in i.modifiers
        write = r.to(target, pair=not high)

        def wide(mask: np.ndarray) -> None:
            left, right = (np.uint64(a()), np.uint64(b())) if unsigned else (_signed(a()), _signed(b()))
            product = np.asarray(left * right).astype(np.uint64) if unsigned else (left * right).view(np.uint64)
            value = np.asarray(product + c())
            write((value >> _32).astype(np.uint32) if high else value, mask)

        return wide
    a, b, c = (r.integer(x) for x in sources)
    carries = [r.predicate(x) for x in into]

    def total() -> Any:
        value = ((a() * b()) & _LOW) + c()
        for carry in carries:
            value = value + carry().astype(np.uint64)
        return value

    return _carries(r, i, total)


def lea(r: Registers, i: Instruction) -> Run:
    _, _, sources, into = _split(i.operands)
    shift = np.uint64(int(sources[-1], 0))
    a, b = r.integer(sources[0]), r.integer(sources[1])
    carries = [r.predicate(x) for x in into] if "X" in i.modifiers else []
    high = "HI" in i.modifiers
    extended = "SX32" in i.modifiers
    c = r.integer(sources[2]) if high and not extended else None

    def total() -> Any:
        low = a() & _LOW
        if high:
            top = np.uint64(c()) if c is not None else (_signed(low) >> 63).astype(np.uint64)
            shifted = ((top << _32 | low) << shift) >> _32
        else:
            shifted = (low << shift) & _LOW
        value = shifted + b()
        for carry in carries:
            value = value + carry().astype(np.uint64)
        return value

    return _carries(r, i, total)


def shf(r: Registers, i: Instruction) -> Run:
    write = r.to(i.operands[0])
    low, by, top = (r.bits(x) for x in i.operands[1:4])
    left, high, signed = "L" in i.modifiers, "HI" in i.modifiers, i.modifiers[1].startswith("S")
    assert "W" not in i.modifiers, str(i)

    def run(mask: np.ndarray) -> None:
        value = np.uint64(top()) << _32 | np.uint64(low())
        shift = np.uint64(by())
        if left:
            # Without HI the upper word of the pair is shifted into nothing: the lower word counts.
            shifted = value << np.minimum(shift, np.uint64(63))
            found = shifted >> _32 if high else shifted
        elif signed:
            found = (np.asarray(value).view(np.int64) >> np.minimum(shift, np.uint64(63)).astype(np.int64)).view(
                np.uint64
            )
            found = found >> _32 if high else found
        else:
            found = value >> np.minimum(shift, np.uint64(63))
            found = found >> _32 if high else found
        write((np.asarray(found) & _LOW).astype(np.uint32), mask)

    return run


def _table(lut: int, a: Any, b: Any, c: Any) -> Any:
    """The function of three bits that a number from 0 to 255 is, bit by bit."""
    found = a & 0
    for k in range(8):
        if lut >> k & 1:
            found = found | ((a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c))
    return found


def lop3(r: Registers, i: Instruction) -> Run:
    rest = list(i.operands)
    flag = r.to(rest.pop(0)) if _is_predicate(rest[0]) else None
    write = r.to(rest[0])
    a, b, c = (r.word(x) for x in rest[1:4])
    lut = int(rest[4], 0)

    def run(mask: np.ndarray) -> None:
        value = _table(lut, np.asarray(a()), b(), c())
        write(value, mask)
        if flag is not None:
            flag(value != 0, mask)

    return run


def plop3(r: Registers, i: Instruction) -> Run:
    first, second = r.to(i.operands[0]), r.to(i.operands[1])
    a, b, c = (r.predicate(x) for x in i.operands[2:5])
    lut, other = int(i.operands[5], 0), int(i.operands[6], 0)

    def run(mask: np.ndarray) -> None:
        x, y, z = a(), b(), c()
        one, two = _table(lut, x, y, z), _table(other, x, y, z)
        first(one, mask)
        second(two, mask)

    return run


def p2r(r: Registers, i: Instruction) -> Run:
    write, other, keep = r.to(i.operands[0]), r.bits(i.operands[2]), int(i.operands[3], 0)

    def run(mask: np.ndarray) -> None:
        value = np.zeros(r.threads, np.uint32)
        for k in range(7):
            if keep >> k & 1:
                value |= r.predicates[k].astype(np.uint32) << np.uint32(k)
        write(value | other() & np.uint32(~keep & 0xFFFFFFFF), mask)

    return run


def r2p(r: Registers, i: Instruction) -> Run:
    value, keep = r.bits(i.operands[1]), int(i.operands[2], 0)

    def run(mask: np.ndarray) -> None:
        bits = value()
        for k in range(7):
            if keep >> k & 1:
                np.copyto(r.predicates[k], (bits >> np.uint32(k) & np.uint32(1)).astype(bool), where=mask)

    return run


def prmt(r: Registers, i: Instruction) -> Run:
    write = r.to(i.operands[0])
    a, selector, b = (r.bits(x) for x in i.operands[1:4])

    def run(mask: np.ndarray) -> None:
        both = np.uint64(b()) << _32 | np.uint64(a())
        chosen = np.asarray(selector())
        value: Any = np.uint32(0)
        for k in range(4):
            which = (chosen >> np.uint32(4 * k) & np.uint32(0xF)).astype(np.uint64)
            byte = both >> (which & np.uint64(7)) * np.uint64(8) & np.uint64(0xFF)
            sign = np.where(byte & np.uint64(0x80), np.uint64(0xFF), np.uint64(0))
            byte = np.where(which & np.uint64(8), sign, byte)
            value = value | byte.astype(np.uint32) << np.uint32(8 * k)
        write(value, mask)

    return run


def mov(r: Registers, i: Instruction) -> Run:
    write, value = r.to(i.operands[0]), r.bits(i.operands[1])
    return lambda mask: write(value(), mask)


def sel(r: Registers, i: Instruction) -> Run:
    write, a, b, chosen = r.to(i.operands[0]), r.word(i.operands[1]), r.word(i.operands[2]), r.predicate(i.operands[3])
    return lambda mask: write(np.where(chosen(), a(), b()), mask)


def fsel(r: Registers, i: Instruction) -> Run:
    write, chosen = r.to(i.operands[0]), r.predicate(i.operands[3])
    a, b = r.single(i.operands[1]), r.single(i.operands[2])
    return lambda mask: write(np.where(chosen(), a(), b()), mask)


def _set_predicates(r: Registers, i: Instruction, compared: Callable[[], Any]) -> Run:
    """Write a comparison and its opposite, each combined with another predicate."""
    combine = COMBINED[next(x for x in i.modifiers if x in COMBINED)]
    first, second, other = r.to(i.operands[0]), r.to(i.operands[1]), r.predicate(i.operands[4])

    def run(mask: np.ndarray) -> None:
        value, before = np.asarray(compared()), other()
        one, two = combine(value, before), combine(~value, before)
        first(one, mask)
        second(two, mask)

    return run


def isetp(r: Registers, i: Instruction) -> Run:
    compare = COMPARISONS[i.modifiers[0]]
    a, b = r.word(i.operands[2]), r.word(i.operands[3])
    unsigned = "U32" in i.modifiers
    low = r.predicate(i.operands[5]) if "EX" in i.modifiers else None
    strict = {"LT": operator.lt, "LE": operator.lt, "GT": operator.gt, "GE": operator.gt}.get(i.modifiers[0])

    def compared() -> Any:
        x, y = (a(), b()) if unsigned else (_signed(a()), _signed(b()))
        if low is None:
            return compare(x, y)
        if i.modifiers[0] == "EQ":
            return (x == y) & low()
        if i.modifiers[0] == "NE":
            return (x != y) | low()
        assert strict is not None
        return strict(x, y) | ((x == y) & low())

    return _set_predicates(r, i, compared)


def _float_comparison(name: str) -> Callable:
    if name == "NAN":
        return lambda x, y: np.isnan(x) | np.isnan(y)
    if name == "NUM":
        return lambda x, y: ~(np.isnan(x) | np.isnan(y))
    compare = COMPARISONS[name[:2]]
    if name.endswith("U") and len(name) == 3:
        return lambda x, y: compare(x, y) | np.isnan(x) | np.isnan(y)
    return lambda x, y: compare(x, y) & ~(np.isnan(x) | np.isnan(y))


def fsetp(r: Registers, i: Instruction) -> Run:
    compare, read = _float_comparison(i.modifiers[0]), r.double if i.opcode == "DSETP" else r.single
    a, b = read(i.operands[2]), read(i.operands[3])
    return _set_predicates(r, i, lambda: compare(a(), b()))


def dsetp(r: Registers, i: Instruction) -> Run:
    """A comparison; or is the first operand the greater (the lesser) one, and are both NaN?"""
    kind = i.modifiers[0]
    if kind not in ("MAX", "MIN"):
        return fsetp(r, i)
    assert i.operands[4] == "PT", str(i)
    first, second = (r.to(x) for x in i.operands[:2])
    a, b = r.double(i.operands[2]), r.double(i.operands[3])

    def run(mask: np.ndarray) -> None:
        x, y = a(), b()
        further, sign = (x > y, ~np.signbit(x)) if kind == "MAX" else (x < y, np.signbit(x))
        first(further | ((x == y) & sign) | np.isnan(y), mask)
        second(np.isnan(x) & np.isnan(y), mask)

    return run


def fset(r: Registers, i: Instruction) -> Run:
    assert i.modifiers[0] == "BF", str(i)
    compare = _float_comparison(i.modifiers[1])
    write, a, b = r.to(i.operands[0]), r.single(i.operands[1]), r.single(i.operands[2])
    return lambda mask: write(compare(a(), b()).astype(np.float32), mask)


def _arithmetic(compute: Callable) -> Callable[[Registers, Instruction], Run]:
    def make(r: Registers, i: Instruction) -> Run:
        if set(i.modifiers) - IGNORED:
            raise NotImplementedError(str(i))
        double = i.opcode.startswith("D")
        write = r.to(i.operands[0], pair=double)
        read = [(r.double if double else r.single)(x) for x in i.operands[1:]]
        return lambda mask: write(compute(*(x() for x in read)), mask)

    return make


def fmnmx(r: Registers, i: Instruction) -> Run:
    write, least = r.to(i.operands[0]), r.predicate(i.operands[3])
    a, b = r.single(i.operands[1]), r.single(i.operands[2])
    low, high = (np.minimum, np.maximum) if "NAN" in i.modifiers else (np.fmin, np.fmax)
    return lambda mask: write(np.where(least(), low(a(), b()), high(a(), b())), mask)


def fchk(r: Registers, i: Instruction) -> Run:
    """May a quotient, or what its steps need, leave the range?  Told a little earlier than by the hardware."""
    write, a, b = r.to(i.operands[0]), r.single(i.operands[1]), r.single(i.operands[2])

    def unsafe(x: Any) -> Any:
        return ~((abs(x) > np.float32(2**-60)) & (abs(x) < np.float32(2**60)))

    return lambda mask: write((unsafe(a()) & (a() != 0)) | unsafe(b()), mask)


def mufu(r: Registers, i: Instruction) -> Run:
    """Rounded: compiled code corrects the last bits of what the hardware approximates."""
    kind, write = i.modifiers[0], r.to(i.operands[0])
    if kind in ("RCP64H", "RSQ64H"):
        high = r.bits(i.operands[1])

        def upper(mask: np.ndarray) -> None:
            x = (np.uint64(high()) << _32).view(np.float64)
            y = 1 / x if kind == "RCP64H" else 1 / np.sqrt(x)
            write((y.view(np.uint64) >> _32).astype(np.uint32), mask)

        return upper
    a = r.single(i.operands[1])
    compute = {"RCP": lambda x: 1 / x, "RSQ": lambda x: 1 / np.sqrt(x)}[kind]
    return lambda mask: write(compute(np.float64(a())).astype(np.float32), mask)


def _toward(x: Any, exact: Callable[[Any], Any], up: bool) -> Any:
    """`x` (a whole number) as a float32, rounded up where that is asked for."""
    near = x.astype(np.float32)
    return np.where(exact(near) < x, np.nextafter(near, np.float32(np.inf)), near) if up else near


def i2f(r: Registers, i: Instruction) -> Run:
    source = next((x for x in i.modifiers if x[0] in "US" and x[1:].isdigit()), "S32")
    if "F64" in i.modifiers:
        write, read = r.to(i.operands[0], pair=True), r.integer(i.operands[1], pair=source.endswith("64"))
        return lambda mask: write(_whole(read(), source).astype(np.float64), mask)
    write, read = r.to(i.operands[0]), r.integer(i.operands[1], pair=source.endswith("64"))
    up = "RP" in i.modifiers

    def run(mask: np.ndarray) -> None:
        write(_toward(_whole(read(), source), lambda x: x.astype(np.uint64), up).astype(np.float32), mask)

    return run


def _whole(x: Any, kind: str) -> Any:
    x = np.asarray(x)
    if kind == "S64":
        return x.view(np.int64)
    return {"U64": x, "U32": x & _LOW, "S32": _signed(x & _LOW), "U16": x & np.uint64(0xFFFF)}[kind]


def f2i(r: Registers, i: Instruction) -> Run:
    double = "F64" in i.modifiers
    read, wide = (r.double if double else r.single)(i.operands[1]), "U64" in i.modifiers or "S64" in i.modifiers
    write = r.to(i.operands[0], pair=wide)
    assert "TRUNC" in i.modifiers, str(i)
    assert "U64" in i.modifiers or "U32" in i.modifiers, str(i)

    def run(mask: np.ndarray) -> None:
        value = np.clip(np.nan_to_num(np.float64(read())), 0, 2.0**64 - 2048 if wide else 2.0**32 - 1).astype(np.uint64)
        write(value if wide else value.astype(np.uint32), mask)

    return run


def f2f(r: Registers, i: Instruction) -> Run:
    if i.modifiers[:2] == ("F64", "F32"):
        write, read = r.to(i.operands[0], pair=True), r.single(i.operands[1])
        return lambda mask: write(np.float64(read()), mask)
    if i.modifiers[:2] == ("F32", "F64"):
        write, wide = r.to(i.operands[0]), r.double(i.operands[1])
        return lambda mask: write(np.float32(wide()), mask)
    raise NotImplementedError(str(i))


def _half(x: Any, brain: bool) -> Any:
    """A float32 as 16 bits, rounded to nearest, ties to even."""
    if not brain:
        return np.asarray(x).astype(np.float16).view(np.uint16).astype(np.uint32)
    bits = np.asarray(x).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded)


def f2fp(r: Registers, i: Instruction) -> Run:
    assert "PACK_AB" in i.modifiers, str(i)
    write, high, low = r.to(i.operands[0]), r.single(i.operands[1]), r.single(i.operands[2])
    brain = "BF16" in i.modifiers
    return lambda mask: write(_half(high(), brain) << np.uint32(16) | _half(low(), brain), mask)


def hadd2(r: Registers, i: Instruction) -> Run:
    if i.modifiers != ("F32",):
        raise NotImplementedError(str(i))
    write, a, b = r.to(i.operands[0]), r.single(i.operands[1]), r.single(i.operands[2])
    return lambda mask: write(a() + b(), mask)


def hfma2(r: Registers, i: Instruction) -> Run:
    """The way to write a constant of two halves."""
    if i.operands[1:3] != ("-RZ", "RZ"):
        raise NotImplementedError(str(i))
    high, low = (np.float16(float(x)).view(np.uint16) for x in i.operands[3:5])
    write, value = r.to(i.operands[0]), np.uint32(int(high) << 16 | int(low))
    return lambda mask: write(value, mask)


def cs2r(r: Registers, i: Instruction) -> Run:
    assert i.operands[1] == "SRZ", str(i)
    write = r.to(i.operands[0], pair="32" not in i.modifiers)
    return lambda mask: write(np.uint32(0) if "32" in i.modifiers else np.uint64(0), mask)


def ldc(r: Registers, i: Instruction) -> Run:
    pair = "64" in i.modifiers
    if set(i.modifiers) - {"64"}:
        raise NotImplementedError(str(i))
    write, read = r.to(i.operands[0], pair), r.bits(i.operands[1], pair)
    return lambda mask: write(read(), mask)


OPERATIONS: dict[str, Callable[[Registers, Instruction], Run]] = {
    "IADD3": iadd3,
    "VIADD": viadd,
    "VIADDMNMX": minmax,
    "VIMNMX": minmax,
    "IMAD": imad,
    "LEA": lea,
    "SHF": shf,
    "LOP3": lop3,
    "PLOP3": plop3,
    "P2R": p2r,
    "R2P": r2p,
    "PRMT": prmt,
    "MOV": mov,
    "SEL": sel,
    "FSEL": fsel,
    "ISETP": isetp,
    "FSETP": fsetp,
    "DSETP": dsetp,
    "FSET": fset,
    "FADD": _arithmetic(np.add),
    "FMUL": _arithmetic(np.multiply),
    "FFMA": _arithmetic(fused),
    "DADD": _arithmetic(np.add),
    "DMUL": _arithmetic(np.multiply),
    "DFMA": _arithmetic(fused),
    "FMNMX": fmnmx,
    "FCHK": fchk,
    "MUFU": mufu,
    "I2F": i2f,
    "I2FP": i2f,
    "F2I": f2i,
    "F2F": f2f,
    "F2FP": f2fp,
    "HADD2": hadd2,
    "HFMA2": hfma2,
    "CS2R": cs2r,
    "LDC": ldc,
}
