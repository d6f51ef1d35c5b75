"""Random bits that are a function of (seed, step, element): the same however the elements are shared among threads.

`keys(seed, step)` makes two keys of 32 bits (SplitMix64's finalizer); `random_bits` hashes an element's number modulo
2^32 with them: two rounds of multiplication and shift of a 32-bit integer with the keys
before and between them, the constants of C. Wellons' search for low bias ("lowbias32").  A lane needs two
multiplications; all 32 bits may be used.  Further words of one element have further keys (`word_key`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import python_callable

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0x21F0AAAD, 0x735A2D97
_SHIFTS = 16, 15, 15
_WORD = 0x9E3779B9  # between the keys of the words

_I32 = ir.IntType(32)


def keys(seed: int, step: int) -> tuple[int, int]:
    """The two keys of a step; seed and step are below 2^64."""
    made = _finalized(_finalized(seed + _GOLDEN & _MASK) + (step + 1) * _GOLDEN & _MASK)
    return made & 0xFFFFFFFF, made >> 32


def _finalized(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
    return x ^ x >> 31


def emit_random_bits(builder: Any, element: Any, key: Any, other: Any) -> Any:
    """32-bit integers, scalars or vectors."""

    def constant(value: int) -> ir.Constant:
        kind = element.type
        return ir.Constant(kind, value if kind == _I32 else [value] * kind.count)

    def shifted(x: Any, by: int) -> Any:
        return builder.xor(x, builder.lshr(x, constant(by)))

    x = shifted(builder.add(element, key), _SHIFTS[0])
    x = builder.xor(builder.mul(x, constant(_FIRST)), other)
    x = builder.mul(shifted(x, _SHIFTS[1]), constant(_SECOND))
    return shifted(x, _SHIFTS[2])


def word_key(other: int, word: int) -> int:
    """The second key of a further word."""
    return other + word * _WORD & 0xFFFFFFFF


def _random_bits(typingctx, first, i, key, other):
    def build(context, builder, signature, operands):
        first, i, key, other = operands
        return emit_random_bits(builder, builder.add(builder.trunc(i, _I32), first), key, other)

    return types.uint32(types.uint32, types.int64, types.uint32, types.uint32), build


def hashed(elements: Any, key: int, other: int, word: int = 0) -> np.ndarray:
    """The random bits of several elements, by NumPy."""

    def shifted(x: np.ndarray, by: int) -> np.ndarray:
        return x ^ x >> np.uint32(by)

    x = (np.asarray(elements, np.int64) & 0xFFFFFFFF).astype(np.uint32)
    x = shifted(x + np.uint32(key), _SHIFTS[0])
    with np.errstate(all="ignore"):
        x = x * np.uint32(_FIRST) ^ np.uint32(word_key(other, word))
        x = shifted(x, _SHIFTS[1]) * np.uint32(_SECOND)
    return shifted(x, _SHIFTS[2])


def _random_bits_python(first, i, key, other):
    return hashed([int(first) + int(i)], int(key), int(other))[0]


def _ahead(typingctx, first, by):
    def build(context, builder, signature, operands):
        return builder.add(operands[0], builder.trunc(operands[1], _I32))

    return types.uint32(types.uint32, types.int64), build


def _ahead_python(first, by):
    return (int(first) + int(by)) & 0xFFFFFFFF


# random_bits(first, i, key, other key): uint32, of the element `i` after `first`;  ahead(first, by): `first + by`.
# Keys and `first` are uint32 as they come: LLVM would make the sum of truncated numbers the truncated sum, in vectors
# of 64 bits.
random_bits = python_callable(intrinsic(_random_bits), _random_bits_python)
ahead = python_callable(intrinsic(_ahead), _ahead_python)
