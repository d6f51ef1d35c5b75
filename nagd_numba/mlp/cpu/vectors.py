"""LLVM's vectors for matrix products: the width of the processor's registers, and the code that works on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config
from numba.core import cgutils

_settings: Any = config
LONG = ir.IntType(64)
_INDEX = ir.IntType(32)
_LANE = 16  # bytes within which unpacking instructions stay


def _vector_bytes() -> int:
    """The width of a vector register of the processor that Numba compiles for."""
    if _settings.CPU_FEATURES is not None:
        features = set(_settings.CPU_FEATURES.split(","))
        wide, middle = "+avx512f" in features, "+avx" in features
    elif _settings.CPU_NAME not in (None, "", "host"):
        wide = middle = False  # some other processor, of which little is known
    else:
        host = binding.get_host_cpu_features()
        wide, middle = host.get("avx512f", False), host.get("avx", False)
    return 64 if wide else 32 if middle else 16


BYTES = _vector_bytes()


class Vectors:
    """Vectors of one floating type, in the code that `builder` writes."""

    def __init__(self, builder: Any, kind: ir.Type) -> None:
        self.builder = builder
        self.itemsize = 4 if kind == ir.FloatType() else 8
        self.lanes = BYTES // self.itemsize
        self.kind = ir.VectorType(kind, self.lanes)
        self.name = f"v{self.lanes}f{8 * self.itemsize}"
        self.zero = ir.Constant(self.kind, [0.0] * self.lanes)
        self.align = ir.Constant(_INDEX, self.itemsize)

    def splat(self, value: Any) -> Any:
        """`value` in every lane."""
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.Constant(_INDEX, 0))
        return self.builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_INDEX, self.lanes), None))

    def mask(self, width: Any, first: int = 0) -> Any:
        """Which of the lanes, that begin with number `first`, lie below `width`."""
        numbers = ir.Constant(ir.VectorType(LONG, self.lanes), list(range(first, first + self.lanes)))
        return self.builder.icmp_signed("<", numbers, self.splat(width))

    def at(self, base: Any, offset: Any) -> Any:
        """`base` plus some elements."""
        return self.builder.gep(base, [offset if isinstance(offset, ir.Value) else ir.Constant(LONG, offset)])

    def load(self, pointer: Any, mask: Any = None) -> Any:
        pointer = self.builder.bitcast(pointer, self.kind.as_pointer())
        if mask is None:
            return self._aligned(self.builder.load(pointer))
        return self._call("llvm.masked.load", [pointer, self.align, mask, self.zero], self.kind, ".p0")

    def store(self, value: Any, pointer: Any, mask: Any = None) -> None:
        pointer = self.builder.bitcast(pointer, self.kind.as_pointer())
        if mask is None:
            self._aligned(self.builder.store(value, pointer))
        else:
            self._call("llvm.masked.store", [value, pointer, self.align, mask], ir.VoidType(), ".p0")

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self._call("llvm.fma", [a, b, c], self.kind)

    def transposed(self, rows: list[Any]) -> list[Any]:
        """The columns of a square block, given its rows."""
        return transposed(rows, self.itemsize, self._shuffle)

    def _shuffle(self, a: Any, b: Any, places: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INDEX, self.lanes), places))

    def _call(self, name: str, operands: list[Any], result: ir.Type, suffix: str = "") -> Any:
        signature = ir.FunctionType(result, [operand.type for operand in operands])
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"{name}.{self.name}{suffix}")
        return self.builder.call(function, operands)

    def _aligned(self, instruction: Any) -> Any:
        instruction.align = self.align.constant
        return instruction


def transposed(rows: list[Any], itemsize: int, shuffle: Any) -> list[Any]:
    """The columns of a square block of which `rows` are given, by shuffles of two vectors.

    `shuffle(a, b, places)` takes elements of `a`, numbered from 0, and of `b`, numbered on.  Each is one instruction:
    small squares are turned within lanes of 16 bytes, then the lanes are turned.
    """
    count, small = len(rows), _LANE // itemsize
    places = np.arange(2 * count).reshape(2, -1, small)  # of a and b, by lanes
    width = 1
    while width < small:  # interleave pieces of `width` elements of two rows that are `width` apart
        pieces = places.reshape(2, -1, 2, small // 2 // width, width)
        made = list(rows)
        for k in range(count):
            if k // width % 2 == 0:
                for half in (0, 1):
                    taken = pieces[:, :, half].transpose(1, 2, 0, 3).reshape(-1).tolist()
                    made[k + half * width] = shuffle(rows[k], rows[k + width], taken)
        rows, width = made, 2 * width
    # Vector `small g + c` now has in each lane a piece, of rows `small g` and on, of the column that c backwards in
    # binary is in that lane.
    bits = small.bit_length() - 1
    columns: list[Any] = [None] * count
    for c in range(small):
        backwards = sum((c >> bit & 1) << (bits - 1 - bit) for bit in range(bits))
        for lane, column in enumerate(_turn(rows[c::small], places, shuffle)):
            columns[small * lane + backwards] = column
    return columns


def _turn(vectors: list[Any], places: np.ndarray, shuffle: Any) -> list[Any]:
    """Lane l of vector g becomes lane g of vector l."""
    even, odd = (places[:, k::2].reshape(-1).tolist() for k in (0, 1))
    if len(vectors) == 1:
        return vectors
    pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
    if len(vectors) == 2:
        return [shuffle(*pairs[0], even), shuffle(*pairs[0], odd)]
    return [  # four
        shuffle(shuffle(*pairs[0], first), shuffle(*pairs[1], first), second)
        for second, first in ((even, even), (even, odd), (odd, even), (odd, odd))
    ]
