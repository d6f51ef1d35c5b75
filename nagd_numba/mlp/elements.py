"""What a training step computes for one element: scalar functions for every kernel, on the CPU and on CUDA."""

from __future__ import annotations

from typing import Any

from numba.extending import overload

from ..kernels.jit import inlined
from ..kernels.mathfuncs import flush_subnormal
from ..kernels.rounding import add, fma, mul
from ..kernels.template import template
from .dropout import drop, drop_delta


@template
def hidden_unit(activate, DROPOUT):
    def hidden_unit(total, bias, key, index, threshold, scale):
        """A hidden unit's activation, after dropout, from its weighted inputs; `scale` is `1/(1 - rate)`."""
        value = activate(add(total, bias))
        if DROPOUT:
            value = drop(value, key, index, threshold, scale)
        return value

    return hidden_unit


@template
def hidden_delta(derivative, DROPOUT):
    def hidden_delta(total, h, key, index, threshold, scale, keep):
        """The loss's derivative with respect to a hidden unit's pre-activation, from the unit's value `h`.

        `total` is the derivative with respect to that value; `keep` is `1 - rate`, and `scale` its inverse.
        """
        if DROPOUT:
            return drop_delta(mul(total, derivative(mul(h, keep))), key, index, threshold, scale)
        return mul(total, derivative(h))

    return hidden_delta


@inlined
def penalised(gradient, p, decay, is_weight):
    """The gradient of the loss with the penalty `decay/2 p^2`, which biases do not have."""
    return fma(decay, p, gradient) if decay != type(p)(0) and is_weight else gradient


def flushed(states: tuple[Any, ...]) -> tuple[Any, ...]:
    """A rule's new states, subnormal ones as 0."""
    return tuple(flush_subnormal(state) for state in states)


@overload(flushed)
def _overload_flushed(states):
    return {
        0: lambda states: (),
        1: lambda states: (flush_subnormal(states[0]),),
        2: lambda states: (flush_subnormal(states[0]), flush_subnormal(states[1])),
        3: lambda states: (flush_subnormal(states[0]), flush_subnormal(states[1]), flush_subnormal(states[2])),
    }[len(states)]
