"""The scalar pieces of the network, shared by the CPU and the CUDA kernels.

An activation is `value(z)` with its derivative `slope(a)`, a function of the activation's own output `a`, so that the
pass back needs nothing else.  A loss of elements is `value(z, t)` and `slope(z, t)` for an output `z` and its target
`t`; cross entropy, which couples the outputs of a sample, is in three pieces.  Roundings are pinned (`rounding.py`).

Dropout is a pure function of (seed, layer, element): no state, no order, the same on every target.  Hidden layer `l`
(from 0) has the key `splitmix(splitmix(seed, 0), l)`; element `i` (in C order of the batch's activations) is dropped
where `splitmix(key, i) < rate * 2^64`, and scaled by `1/(1 - rate)` where it is kept.  `splitmix(key, i)` is output
`i` of the generator SplitMix64 started at `key`.

Reference: G. Steele, D. Lea, C. Flood, OOPSLA 2014 (SplitMix64).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from ..compile import inlined, python_callable
from ..elementary import copysign, exp, log, log1p, sigmoid, smallest_normal, tanh
from ..rounding import add, fma, mul

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_WORD = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class Activation:
    """`value(z)`, and its derivative `slope(a)` where `a = value(z)`; made with `compile.inlined`."""

    name: str
    value: Callable
    slope: Callable


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss: what its targets are, and `value(z, t)`, `slope(z, t)` where it is a sum over elements.

    labels   the targets are class indices, one a sample; the outputs of a sample are coupled by softmax
    binary   the targets must be 0 or 1
    """

    name: str
    labels: bool
    binary: bool
    value: Callable
    slope: Callable


@inlined
def relu(z):
    return type(z)(0) if z <= type(z)(0) else z  # NaN passes


@inlined
def relu_slope(a):
    return type(a)(1) if a > type(a)(0) else type(a)(0)


@inlined
def tanh_slope(a):
    return fma(-a, a, type(a)(1))


@inlined
def sigmoid_slope(a):
    return mul(a, add(type(a)(1), -a))


@inlined
def identity(z):
    return z


@inlined
def identity_slope(a):
    return type(a)(1)


@inlined
def squared_error(z, t):
    """`(z - t)^2`."""
    difference = add(z, -t)
    return mul(difference, difference)


@inlined
def squared_error_slope(z, t):
    """`2 (z - t)`."""
    return mul(type(z)(2), add(z, -t))


@inlined
def binary_cross_entropy(z, t):
    """`-t log sigmoid(z) - (1-t) log sigmoid(-z)` of a logit `z`, in a form that cannot overflow."""
    T = type(z)
    positive = T(0) if z < T(0) else z
    return add(fma(-t, z, positive), log1p(exp(-copysign(z, T(1)))))


@inlined
def binary_cross_entropy_slope(z, t):
    """`sigmoid(z) - t`."""
    return add(sigmoid(z), -t)


@inlined
def softmax_term(z, largest):
    """`e^(z - largest)`."""
    return exp(add(z, -largest))


@inlined
def softmax_loss(z, largest, total):
    """`-log softmax` of the target's logit `z`, from the sum `total` of the sample's terms."""
    return add(log(total), -add(z, -largest))


@inlined
def softmax_slope(term, inverse_total, target, factor):
    """`factor (softmax - target)`, where `target` is 1 for the label and 0 elsewhere."""
    return mul(add(mul(term, inverse_total), -target), factor)


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


@inlined
def settled(v):
    """A velocity, or 0 where it is subnormal.

    The velocity of a weight whose gradient has become 0 halves every few steps until it is subnormal, and stays so for
    a hundred steps, in which processors need ten times as long for its arithmetic.
    """
    T = type(v)
    return T(0) if copysign(v, T(1)) < smallest_normal(v) else v


def _splitmix(key, index):
    """Output `index` of SplitMix64 started at `key`: 64 bits that look random."""
    word = (int(key) + (int(index) + 1) * _GOLDEN) & _WORD
    for shift, factor in _MIX:
        word = (word ^ word >> shift) * factor & _WORD
    return np.uint64(word ^ word >> 31)


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


def drop_threshold(rate: float) -> np.uint64:
    """Elements whose 64 random bits are below this number are dropped."""
    return np.uint64(int(rate * 2.0**64))


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("relu", relu, relu_slope),
        Activation("tanh", tanh, tanh_slope),
        Activation("sigmoid", sigmoid, sigmoid_slope),
        Activation("identity", identity, identity_slope),
    )
}
LOSSES = {
    loss.name: loss
    for loss in (
        # The pieces of cross entropy are above; its element functions are never called.
        Loss("cross_entropy", True, False, softmax_term, softmax_term),
        Loss("mse", False, False, squared_error, squared_error_slope),
        Loss("binary_cross_entropy", False, True, binary_cross_entropy, binary_cross_entropy_slope),
    )
}
