"""One element of Nesterov's accelerated gradient, in the form of each framework; see `nesterov`."""

from __future__ import annotations

from typing import Literal, get_args

from ..kernels.jit import inlined
from ..kernels.rounding import add, fma, mul
from .arrays import Scalar

Convention = Literal["torch", "keras", "caffe", "bengio"]
CONVENTIONS = get_args(Convention)
TORCH, KERAS, CAFFE, BENGIO = range(4)

# In each form a momentum of 0 takes its term out, instead of adding a product with 0: the step is then gradient
# descent to the last bit (signs of zeros too), and an infinite velocity left by an overflow is forgotten.


@inlined
def nesterov_update(
    p: Scalar, g: Scalar, v: Scalar, lr: float, momentum: float, momentum_next: float, nesterov: bool = True
) -> tuple[Scalar, Scalar]:
    """One element of Nesterov's accelerated gradient, PyTorch's convention: returns the new `(p, v)`.

        v = momentum v + g
        p = p - lr (g + momentum_next v)

    For use inside `@njit` and `@cuda.jit` functions, in host or device memory; nothing is written.

    Parameters
    ----------
    p, g, v : float32 or float64
        The parameter, its gradient, the velocity: scalars of one type.
    lr, momentum, momentum_next : float
        As for `nagd_numba.step`; cast to that type.  `momentum=0` is gradient descent, `p - lr g`, to the last bit.
    nesterov : bool
        A constant.  False for the heavy ball: `p = p - lr v`.

    Returns
    -------
    (p, v), new.

    Raises
    ------
    numba.core.errors.TypingError
        When it is compiled, for scalars that are not of one floating type.

    Notes
    -----
    Ranges are not checked here.

    References
    ----------
    Y. Nesterov, Soviet Math. Dokl. 27 (1983) 372; I. Sutskever et al., ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from numba import njit
    >>> @njit
    ... def descend(x, steps):
    ...     v = 0.0
    ...     for _ in range(steps):
    ...         x, v = nesterov_update(x, 2 * (x - 3), v, 0.1, 0.5, 0.5)
    ...     return x
    >>> round(descend(0.0, 50), 6)
    3.0
    """
    T = type(p)
    step, momentum, momentum_next = T(-lr), T(momentum), T(momentum_next)
    v = g if momentum == 0 else add(mul(momentum, v), g)
    if nesterov:
        direction = g if momentum_next == 0 else fma(momentum_next, v, g)
    else:
        direction = v
    return fma(step, direction, p), v


@inlined
def keras_update(
    p: Scalar, g: Scalar, v: Scalar, lr: float, momentum: float, momentum_next: float, nesterov: bool = True
) -> tuple[Scalar, Scalar]:
    """`nesterov_update` in the convention of Keras and scikit-learn: the state holds `-lr` times torch's."""
    T = type(p)
    momentum, momentum_next = T(momentum), T(momentum_next)
    move = mul(T(-lr), g)
    v = move if momentum == 0 else add(mul(momentum, v), move)
    if nesterov:
        change = move if momentum_next == 0 else add(mul(momentum_next, v), move)
    else:
        change = v
    return add(p, change), v


@inlined
def caffe_update(
    p: Scalar, g: Scalar, v: Scalar, lr: float, momentum: float, momentum_next: float, nesterov: bool = True
) -> tuple[Scalar, Scalar]:
    """`nesterov_update` in the convention of Caffe: the state holds `lr` times torch's."""
    T = type(p)
    momentum, momentum_next = T(momentum), T(momentum_next)
    old = v
    move = mul(T(lr), g)
    v = move if momentum == 0 else add(mul(momentum, old), move)
    change = v
    if nesterov:
        change = mul(add(T(1), momentum_next), v)
        if momentum != 0:
            change = add(change, -mul(momentum, old))
    return add(p, -change), v


@inlined
def bengio_update(
    p: Scalar, g: Scalar, v: Scalar, lr: float, momentum: float, momentum_next: float, nesterov: bool = True
) -> tuple[Scalar, Scalar]:
    """`nesterov_update` in the convention of Bengio et al. and MXNet: the state is Keras's."""
    T = type(p)
    momentum, momentum_next = T(momentum), T(momentum_next)
    old = v
    move = mul(T(-lr), g)
    v = move if momentum == 0 else add(mul(momentum, old), move)
    change = v
    if nesterov:
        change = mul(add(T(1), momentum_next), move)
        if momentum != 0:
            change = add(mul(mul(momentum_next, momentum), old), change)
    return add(p, change), v
