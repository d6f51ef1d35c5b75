"""What the instructions of Hopper compute: for each, a function that makes a closure over its operands.

From NVIDIA's names of the instructions (CUDA binary utilities) and what compiled code does with them; that the results
are those of the CPU is the test.  Anything else raises `NotImplementedError` with the instruction.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import conversions, floats, integers, predicates
from .listing import Instruction
from .operands import Run
from .registers import Registers

OPERATIONS: dict[str, Callable[[Registers, Instruction], Run]] = {
    "IADD3": integers.iadd3,
    "VIADD": integers.viadd,
    "VIADDMNMX": integers.minmax,
    "VIMNMX": integers.minmax,
    "IMAD": integers.imad,
    "LEA": integers.lea,
    "SHF": integers.shf,
    "LOP3": integers.lop3,
    "PLOP3": predicates.plop3,
    "P2R": predicates.p2r,
    "R2P": predicates.r2p,
    "PRMT": integers.prmt,
    "MOV": integers.mov,
    "SEL": integers.sel,
    "FSEL": floats.fsel,
    "ISETP": predicates.isetp,
    "FSETP": predicates.fsetp,
    "DSETP": predicates.dsetp,
    "FSET": predicates.fset,
    "FADD": floats.arithmetic(np.add),
    "FMUL": floats.arithmetic(np.multiply),
    "FFMA": floats.arithmetic(floats.fused),
    "DADD": floats.arithmetic(np.add),
    "DMUL": floats.arithmetic(np.multiply),
    "DFMA": floats.arithmetic(floats.fused),
    "FMNMX": floats.fmnmx,
    "FCHK": floats.fchk,
    "MUFU": floats.mufu,
    "I2F": conversions.i2f,
    "I2FP": conversions.i2f,
    "F2I": conversions.f2i,
    "F2F": conversions.f2f,
    "F2FP": conversions.f2fp,
    "HADD2": floats.hadd2,
    "HFMA2": conversions.hfma2,
    "CS2R": integers.cs2r,
    "LDC": integers.ldc,
}
