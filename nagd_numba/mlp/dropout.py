"""Dropout: a pure function of (seed, layer, element), with no state and no order, the same on every target.

Hidden layer `l` (from 0) has the key `splitmix(splitmix(seed, 0), l)`; element `i` (in C order of the batch's
activations) is dropped where `splitmix(key, i) < rate * 2^64`, and scaled by `1/(1 - rate)` where it is kept.
`splitmix(key, i)` is output `i` of the generator SplitMix64 started at `key`.

Reference: G. Steele, D. Lea, C. Flood, OOPSLA 2014 (SplitMix64).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from ..kernels.jit import inlined, python_callable
from ..kernels.rounding import mul

_GOLDEN = 0x9E3779B97F4A7C15


_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


_WORD = (1 << 64) - 1


@inlined
def drop(a, key, index, threshold, scale):
    """An activation after dropout: 0, or `scale a`."""
    kept = mul(a, scale)
    return kept if splitmix(key, index) >= threshold else type(a)(0)


@inlined
def drop_delta(delta, key, index, threshold, scale):
    """The derivative of `drop`, times `delta`."""
    kept = mul(delta, scale)
    return kept if splitmix(key, index) >= threshold else type(delta)(0)


def _splitmix(key, index):
    """Output `index` of SplitMix64 started at `key`: 64 bits that look random."""
    word = (int(key) + (int(index) + 1) * _GOLDEN) & _WORD
    for shift, factor in _MIX:
        word = (word ^ word >> shift) * factor & _WORD
    return np.uint64(word ^ word >> 31)


def splitmix_each(keys: np.ndarray, indices: Any) -> np.ndarray:
    """`splitmix` of every element of `keys`, uint64 of at least one dimension, whose arithmetic wraps around."""
    word = keys + (np.atleast_1d(indices).astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
    for shift, factor in _MIX:
        word = (word ^ word >> np.uint64(shift)) * np.uint64(factor)
    return word ^ word >> np.uint64(31)


def _splitmix_intrinsic() -> Any:
    # Written in LLVM, since NumPy's scalars warn of the overflows that this is made of.
    def splitmix(typingctx, key, index):
        if key != types.uint64 or not isinstance(index, types.Integer):
            raise TypingError(f"splitmix needs a uint64 and an integer, got ({key}, {index})")

        def build(context, builder, signature, operands):
            def constant(value):
                return ir.Constant(ir.IntType(64), value)

            count = builder.add(operands[1], constant(1))
            word = builder.add(operands[0], builder.mul(count, constant(_GOLDEN)))
            for shift, factor in _MIX:
                word = builder.mul(builder.xor(word, builder.lshr(word, constant(shift))), constant(factor))
            return builder.xor(word, builder.lshr(word, constant(31)))

        return types.uint64(types.uint64, types.uint64), build

    return python_callable(intrinsic(splitmix), _splitmix)


splitmix = _splitmix_intrinsic()


@inlined
def layer_key(seed, layer):
    """The dropout key of a hidden layer, counted from 0."""
    return splitmix(splitmix(seed, 0), layer)


def layer_keys(seeds: np.ndarray, layer: int) -> np.ndarray:
    """`layer_key` of every element of `seeds`."""
    return splitmix_each(splitmix_each(seeds, 0), layer)


def drop_threshold(rate: float) -> np.uint64:
    """Elements whose 64 random bits are below this number are dropped."""
    return np.uint64(int(rate * 2.0**64))
