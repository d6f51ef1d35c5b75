"""Floating-point arithmetic, rounded as by the hardware, and what starts a division or a square root."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import vectorize

from nagd_numba.kernels.rounding import fma

from .listing import Instruction
from .operands import WORD, Run
from .registers import Registers

IGNORED = frozenset({"FTZ", "REL", "NOINC", "U32", "MMA", "NTZ", "S32"})  # modifiers


@vectorize(["float32(float32, float32, float32)", "float64(float64, float64, float64)"])
def fused(a, b, c):
    return fma(a, b, c)


def arithmetic(compute: Callable) -> Callable[[Registers, Instruction], Run]:
    def make(r: Registers, i: Instruction) -> Run:
        if set(i.modifiers) - IGNORED:
            raise NotImplementedError(str(i))
        double = i.opcode.startswith("D")
        write = r.to(i.operands[0], pair=double)
        read = [(r.double if double else r.single)(x) for x in i.operands[1:]]
        return lambda mask: write(compute(*(x() for x in read)), mask)

    return make


def fsel(r: Registers, i: Instruction) -> Run:
    write, chosen = r.to(i.operands[0]), r.predicate(i.operands[3])
    a, b = r.single(i.operands[1]), r.single(i.operands[2])
    return lambda mask: write(np.where(chosen(), a(), b()), mask)


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
            x = (np.uint64(high()) << WORD).view(np.float64)
            y = 1 / x if kind == "RCP64H" else 1 / np.sqrt(x)
            write((y.view(np.uint64) >> WORD).astype(np.uint32), mask)

        return upper
    a = r.single(i.operands[1])
    compute = {"RCP": lambda x: 1 / x, "RSQ": lambda x: 1 / np.sqrt(x)}[kind]
    return lambda mask: write(compute(np.float64(a())).astype(np.float32), mask)


def hadd2(r: Registers, i: Instruction) -> Run:
    if i.modifiers != ("F32",):
        raise NotImplementedError(str(i))
    write, a, b = r.to(i.operands[0]), r.single(i.operands[1]), r.single(i.operands[2])
    return lambda mask: write(a() + b(), mask)
