"""Predicates: comparisons that write them, logic of them, and words that hold them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from .integers import looked_up
from .listing import Instruction
from .operands import Run, signed
from .registers import Registers

COMPARISONS: dict[str, Callable] = {
    "LT": operator.lt,
    "GT": operator.gt,
    "LE": operator.le,
    "GE": operator.ge,
    "EQ": operator.eq,
    "NE": operator.ne,
}
COMBINED: dict[str, Callable] = {"AND": operator.and_, "OR": operator.or_, "XOR": operator.xor}


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
        x, y = (a(), b()) if unsigned else (signed(a()), signed(b()))
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


def plop3(r: Registers, i: Instruction) -> Run:
    first, second = r.to(i.operands[0]), r.to(i.operands[1])
    a, b, c = (r.predicate(x) for x in i.operands[2:5])
    lut, other = int(i.operands[5], 0), int(i.operands[6], 0)

    def run(mask: np.ndarray) -> None:
        x, y, z = a(), b(), c()
        one, two = looked_up(lut, x, y, z), looked_up(other, x, y, z)
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
