"""Whole numbers and their bits: sums, products, shifts, logic; words that are moved or chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .listing import Instruction
from .operands import LOW, WORD, Run, is_predicate, signed, split
from .registers import Registers


def _sum(r: Registers, i: Instruction, total: Callable[[], Any], into: list[str]) -> Run:
    """Write a total with the carries `into` it, and whether it is beyond 32 bits (twice beyond)."""
    target, out, _, _ = split(i.operands)
    write, carries, added = r.to(target), [r.to(x) for x in out], [r.predicate(x) for x in into]

    def run(mask: np.ndarray) -> None:
        value = total()
        for carry in added:
            value = value + carry().astype(np.uint64)
        write((value & LOW).astype(np.uint32), mask)
        for k, beyond in enumerate(carries):
            beyond((value >> WORD) > np.uint64(k), mask)

    return run


def iadd3(r: Registers, i: Instruction) -> Run:
    _, _, sources, into = split(i.operands)
    a, b, c = (r.integer(x) for x in sources)
    return _sum(r, i, lambda: a() + b() + c(), into if "X" in i.modifiers else [])


def viadd(r: Registers, i: Instruction) -> Run:
    a, b, write = r.integer(i.operands[1]), r.integer(i.operands[2]), r.to(i.operands[0])
    return lambda mask: write(((a() + b()) & LOW).astype(np.uint32), mask)


def minmax(r: Registers, i: Instruction) -> Run:
    """The lesser or the greater of a number, or of a sum of two, and another."""
    write, least = r.to(i.operands[0]), r.predicate(i.operands[-1])
    *first, second = (r.word(x) for x in i.operands[1:-1])
    unsigned = "U32" in i.modifiers

    def run(mask: np.ndarray) -> None:
        x = first[0]() + first[1]() if len(first) == 2 else first[0]()
        y = second()
        less = x < y if unsigned else signed(x) < signed(y)
        write(np.where(less == least(), x, y), mask)

    return run


def imad(r: Registers, i: Instruction) -> Run:
    target, out, sources, into = split(i.operands)
    unsigned = "U32" in i.modifiers
    if "WIDE" in i.modifiers or "HI" in i.modifiers:
        a, b = r.word(sources[0]), r.word(sources[1])
        c = r.integer(sources[2], pair=True)
        assert not out, str(i)
        assert not into, str(i)
        high = "HI" in i.modifiers
        write = r.to(target, pair=not high)

        def wide(mask: np.ndarray) -> None:
            left, right = (np.uint64(a()), np.uint64(b())) if unsigned else (signed(a()), signed(b()))
            product = np.asarray(left * right).astype(np.uint64) if unsigned else (left * right).view(np.uint64)
            value = np.asarray(product + c())
            write((value >> WORD).astype(np.uint32) if high else value, mask)

        return wide
    a, b, c = (r.integer(x) for x in sources)
    return _sum(r, i, lambda: ((a() * b()) & LOW) + c(), into)


def lea(r: Registers, i: Instruction) -> Run:
    _, _, sources, into = split(i.operands)
    shift = np.uint64(int(sources[-1], 0))
    a, b = r.integer(sources[0]), r.integer(sources[1])
    high = "HI" in i.modifiers
    extended = "SX32" in i.modifiers
    c = r.integer(sources[2]) if high and not extended else None

    def total() -> Any:
        low = a() & LOW
        if high:
            top = np.uint64(c()) if c is not None else (signed(low) >> 63).astype(np.uint64)
            shifted = ((top << WORD | low) << shift) >> WORD
        else:
            shifted = (low << shift) & LOW
        return shifted + b()

    return _sum(r, i, total, into if "X" in i.modifiers else [])


def shf(r: Registers, i: Instruction) -> Run:
    write = r.to(i.operands[0])
    low, by, top = (r.bits(x) for x in i.operands[1:4])
    left, high, arithmetic = "L" in i.modifiers, "HI" in i.modifiers, i.modifiers[1].startswith("S")
    assert "W" not in i.modifiers, str(i)

    def run(mask: np.ndarray) -> None:
        value = np.uint64(top()) << WORD | np.uint64(low())
        shift = np.uint64(by())
        if left:
            # Without HI the upper word of the pair is shifted into nothing: the lower word counts.
            shifted = value << np.minimum(shift, np.uint64(63))
            found = shifted >> WORD if high else shifted
        elif arithmetic:
            found = (np.asarray(value).view(np.int64) >> np.minimum(shift, np.uint64(63)).astype(np.int64)).view(
                np.uint64
            )
            found = found >> WORD if high else found
        else:
            found = value >> np.minimum(shift, np.uint64(63))
            found = found >> WORD if high else found
        write((np.asarray(found) & LOW).astype(np.uint32), mask)

    return run


def looked_up(lut: int, a: Any, b: Any, c: Any) -> Any:
    """The function of three bits that a number from 0 to 255 is, bit by bit."""
    found = a & 0
    for k in range(8):
        if lut >> k & 1:
            found = found | ((a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c))
    return found


def lop3(r: Registers, i: Instruction) -> Run:
    rest = list(i.operands)
    flag = r.to(rest.pop(0)) if is_predicate(rest[0]) else None
    write = r.to(rest[0])
    a, b, c = (r.word(x) for x in rest[1:4])
    lut = int(rest[4], 0)

    def run(mask: np.ndarray) -> None:
        value = looked_up(lut, np.asarray(a()), b(), c())
        write(value, mask)
        if flag is not None:
            flag(value != 0, mask)

    return run


def prmt(r: Registers, i: Instruction) -> Run:
    write = r.to(i.operands[0])
    a, selector, b = (r.bits(x) for x in i.operands[1:4])

    def run(mask: np.ndarray) -> None:
        both = np.uint64(b()) << WORD | np.uint64(a())
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
