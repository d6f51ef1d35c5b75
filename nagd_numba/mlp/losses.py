"""Losses, as scalar functions for the CPU and the CUDA kernels.

A loss of elements is `value(z, t)` and `derivative(z, t)`, with respect to `z`, for an output `z` and its target `t`;
cross entropy, which couples the outputs of a sample, is in pieces.  Roundings are pinned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..kernels.jit import inlined
from ..kernels.mathfuncs import copysign, exp, log, log1p, sigmoid
from ..kernels.rounding import add, fma, mul


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss: what its targets are, and `value(z, t)`, `derivative(z, t)` where it is a sum over elements.

    coupled  the outputs of a sample are coupled by softmax; the mean is over the samples
    labels   the targets are class indices, one a sample
    binary   the targets must be 0 or 1
    """

    name: str
    coupled: bool
    labels: bool
    binary: bool
    value: Callable
    derivative: Callable


@inlined
def squared_error(z, t):
    """`(z - t)^2`."""
    difference = add(z, -t)
    return mul(difference, difference)


@inlined
def squared_error_derivative(z, t):
    """`2 (z - t)`."""
    return mul(type(z)(2), add(z, -t))


@inlined
def binary_cross_entropy(z, t):
    """`-t log sigmoid(z) - (1-t) log sigmoid(-z)` of a logit `z`, in a form that cannot overflow."""
    T = type(z)
    positive = T(0) if z < T(0) else z
    return add(fma(-t, z, positive), log1p(exp(-copysign(z, T(1)))))


@inlined
def binary_cross_entropy_derivative(z, t):
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
def soft_loss(z, t, log_terms):
    """An output's part of the cross entropy with a target of probability `t`; `z` has the largest subtracted."""
    return mul(t, add(log_terms, -z))


@inlined
def softmax_derivative(term, inverse_total, target, factor):
    """`factor (softmax - target)`, where `target` is 1 for the label and 0 elsewhere, or a probability."""
    return mul(add(mul(term, inverse_total), -target), factor)


SOFT = "soft_cross_entropy"  # cross_entropy, where the targets are a probability for each class
NAMES = "cross_entropy", "mse", "binary_cross_entropy"  # what networks are made with
SUM_TOLERANCE = 1e-5  # how far from 1 the probabilities of a sample may sum to

LOSSES = {
    loss.name: loss
    for loss in (
        # The pieces of cross entropy are above; its element functions are never called.
        Loss("cross_entropy", True, True, False, softmax_term, softmax_term),
        Loss(SOFT, True, False, False, softmax_term, softmax_term),
        Loss("mse", False, False, False, squared_error, squared_error_derivative),
        Loss("binary_cross_entropy", False, False, True, binary_cross_entropy, binary_cross_entropy_derivative),
    )
}
