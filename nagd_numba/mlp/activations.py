"""Activations of the hidden layers, as scalar functions for the CPU and the CUDA kernels.

`value(z)` is the activation, `slope(a)` its derivative as a function of the activation's own output `a`, so that the
backward pass needs nothing else.  Roundings are pinned (`kernels/rounding.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..kernels.jit import inlined
from ..kernels.mathfuncs import sigmoid, tanh
from ..kernels.rounding import add, fma, mul


@dataclass(frozen=True, eq=False)
class Activation:
    """`value(z)`, and its derivative `slope(a)` where `a = value(z)`; made with `compile.inlined`."""

    name: str
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


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("relu", relu, relu_slope),
        Activation("tanh", tanh, tanh_slope),
        Activation("sigmoid", sigmoid, sigmoid_slope),
        Activation("identity", identity, identity_slope),
    )
}
