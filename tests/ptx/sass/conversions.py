"""Conversions: between whole numbers and floating-point ones, and to those of 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from .listing import Instruction
from .operands import LOW, Run, signed
from .registers import Registers


def i2f(r: Registers, i: Instruction) -> Run:
    source = next((x for x in i.modifiers if x[0] in "US" and x[1:].isdigit()), "S32")
    if "F64" in i.modifiers:
        write, read = r.to(i.operands[0], pair=True), r.integer(i.operands[1], pair=source.endswith("64"))
        return lambda mask: write(_whole(read(), source).astype(np.float64), mask)
    write, read = r.to(i.operands[0]), r.integer(i.operands[1], pair=source.endswith("64"))
    up = "RP" in i.modifiers

    def run(mask: np.ndarray) -> None:
        write(_toward(_whole(read(), source), up).astype(np.float32), mask)

    return run


def _whole(x: Any, kind: str) -> Any:
    x = np.asarray(x)
    if kind == "S64":
        return x.view(np.int64)
    return {"U64": x, "U32": x & LOW, "S32": signed(x & LOW), "U16": x & np.uint64(0xFFFF)}[kind]


def _toward(x: Any, up: bool) -> Any:
    """`x` (a whole number) as a float32, rounded up where that is asked for."""
    near = x.astype(np.float32)
    return np.where(near.astype(np.uint64) < x, np.nextafter(near, np.float32(np.inf)), near) if up else near


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


def f2fp(r: Registers, i: Instruction) -> Run:
    assert "PACK_AB" in i.modifiers, str(i)
    write, high, low = r.to(i.operands[0]), r.single(i.operands[1]), r.single(i.operands[2])
    brain = "BF16" in i.modifiers
    return lambda mask: write(_half(high(), brain) << np.uint32(16) | _half(low(), brain), mask)


def _half(x: Any, brain: bool) -> Any:
    """A float32 as 16 bits, rounded to nearest, ties to even."""
    if not brain:
        return np.asarray(x).astype(np.float16).view(np.uint16).astype(np.uint32)
    bits = np.asarray(x).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FFF), rounded)


def hfma2(r: Registers, i: Instruction) -> Run:
    """The way to write a constant of two halves."""
    if i.operands[1:3] != ("-RZ", "RZ"):
        raise NotImplementedError(str(i))
    high, low = (np.float16(float(x)).view(np.uint16) for x in i.operands[3:5])
    write, value = r.to(i.operands[0]), np.uint32(int(high) << 16 | int(low))
    return lambda mask: write(value, mask)
