"""Activations of the hidden layers, as scalar functions for the CPU and the CUDA kernels.

`value(z)` is the activation, and `derivative(a)` its derivative as a function of the activation's own output `a`, so
that the backward pass needs nothing else.  Roundings are pinned (`kernels/rounding.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..kernels.jit import inlined
from ..kernels.mathfuncs import sigmoid, tanh
from ..kernels.rounding import add, fma, mul


@dataclass(frozen=True, eq=False)
class Activation:
    """`value(z)`, and its derivative `derivative(a)` where `a = value(z)`; made with `jit.inlined`."""

    name: str
    value: Callable
    derivative: Callable


@inlined
def relu(z):
    return type(z)(0) if z <= type(z)(0) else z  # NaN passes


@inlined
def relu_derivative(a):
    return type(a)(1) if a > type(a)(0) else type(a)(0)


@inlined
def tanh_derivative(a):
    return fma(-a, a, type(a)(1))


@inlined
def sigmoid_derivative(a):
    return mul(a, add(type(a)(1), -a))


@inlined
def identity(z):
    return z


@inlined
def identity_derivative(a):
    return type(a)(1)


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("relu", relu, relu_derivative),
        Activation("tanh", tanh, tanh_derivative),
        Activation("sigmoid", sigmoid, sigmoid_derivative),
        Activation("identity", identity, identity_derivative),
    )
}
