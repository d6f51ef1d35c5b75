"""What a step of `nesterov` does where there is no gradient: a linear map of the parameter and the velocity.

With the gradient `g` of weight decay alone (`g = w p`; 0 where there is none or it is decoupled) every form of the step
is `v <- mu v + f g`, `p <- s p - e g + B v`, with the old `v` on the right.  The numbers are made of the constants that
the step itself has, rounded as it rounds them, in numbers of two float64 (`kernels.power`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.idle_steps import total
from ..kernels.jit import inlined
from ..kernels.power import product
from ..kernels.rounding import add, mul
from .arrays import Constants
from .conventions import BENGIO, CAFFE, KERAS, TORCH
from .nesterov import DECOUPLED, L2


@inlined
def idle_step(constants: Constants, options: tuple[Any, ...]) -> tuple[float, ...]:
    """The matrix of `kernels.idle_steps` of one step without a gradient."""
    convention, nesterov, decay, _ = options
    T = type(constants[0])
    lr, mu = np.float64(constants[0]), np.float64(constants[1])
    mu_next, w = np.float64(constants[2]), np.float64(constants[3])
    f = 1.0 if convention == TORCH else lr if convention == CAFFE else -lr
    e, e_low, B, B_low = lr, 0.0, mu, 0.0
    if nesterov:
        if convention in (TORCH, KERAS):
            one_more, rest = total(1.0, 0.0, mu_next, 0.0)
        else:
            one_more, rest = np.float64(add(T(1), constants[2])), 0.0
        e, e_low = product(lr, 0.0, one_more, rest)
        if convention == BENGIO:
            B = np.float64(mul(constants[2], constants[1]))
        else:
            following, rest = total(one_more, rest, -1.0, 0.0)
            B, B_low = product(mu, 0.0, following, rest)
    if convention == TORCH:
        B, B_low = product(B, B_low, -lr, 0.0)
    elif convention == CAFFE:
        B, B_low = -B, -B_low
    A, A_low, C, C_low = 1.0, 0.0, 0.0, 0.0
    if decay == L2:
        less, rest = product(e, e_low, w, 0.0)
        A, A_low = total(1.0, 0.0, -less, -rest)
        C, C_low = product(f, 0.0, w, 0.0)
    elif decay == DECOUPLED:
        A = w  # 1 - lr w, rounded
    return A, B, C, mu, A_low, B_low, C_low, 0.0
