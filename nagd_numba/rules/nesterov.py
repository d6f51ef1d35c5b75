r"""Nesterov's accelerated gradient, in the forms that the frameworks use.

With the gradient `g` at the stored parameters `p`, learning rate `lr`, momentum `mu` and the momentum of the next
step `mu_next` (equal to `mu` unless a schedule says otherwise), every form below is

    v <- mu v - lr g
    p <- p + mu_next v - lr g

in other variables.  `p` is the look-ahead point; Nesterov's iterate is `p - mu_next v`.  With two momenta this is
exactly Sutskever's method under his momentum schedule and exactly FISTA under its `t_k`.

======== ============================== ============================= ==========================================
name     state                          parameters                    used by
======== ============================== ============================= ==========================================
torch    b = mu b + g                   p -= lr (g + mu_next b)       PyTorch, optax, Apex, TensorFlow 1
keras    m = mu m - lr g                p += mu_next m - lr g         Keras, TensorFlow 2, scikit-learn, Lasagne
caffe    h' = mu h + lr g               p -= (1+mu_next) h' - mu h    Caffe, Deeplearning4j
bengio   v' = mu v - lr g               p += mu_next mu v             Optimisers.jl, MXNet
                                             - (1+mu_next) lr g
======== ============================== ============================= ==========================================

At constant `lr` the parameters agree (`b = -m/lr = h/lr`).  After a change of `lr` they do not: `keras`, `caffe` and
`bengio` carry the old rate in the state, which must be scaled by `lr_new/lr_old` to follow `torch`.

Roundings are pinned.  `torch` follows `torch.optim.SGD` on the CPU (`foreach` or not):
`b = rnd(rnd(mu b) + g)`, `p = fma(-lr, fma(mu, b, g), p)`; the others round every product and sum, as scikit-learn
and Keras do under NumPy.

References: Y. Nesterov, Soviet Math. Dokl. 27 (1983); I. Sutskever et al., ICML 2013; Y. Bengio et al.,
arXiv:1212.0901; A. Beck and M. Teboulle, SIAM J. Imaging Sci. 2 (2009).
"""

from __future__ import annotations

from ..compile import inlined
from ..rounding import add, fma, mul
from .base import Rule

CONVENTIONS = ("torch", "keras", "caffe", "bengio")
TORCH, KERAS, CAFFE, BENGIO = range(4)
NO_DECAY, L2, DECOUPLED = range(3)

# In each form a momentum of 0 takes its term out, instead of adding a product with 0: the step is then gradient
# descent to the last bit (signs of zeros too), and an infinite velocity left by an overflow is forgotten.


@inlined
def nesterov_update(p, g, v, lr, momentum, momentum_next, nesterov=True):
    """One element of Nesterov's accelerated gradient, PyTorch's convention: returns the new `(p, v)`.

        v = momentum v + g
        p = p - lr (g + momentum_next v)        nesterov=False: p = p - lr v   (heavy ball)

    For use inside `@njit` and `@cuda.jit` functions, on scalars `p`, `g`, `v` of one floating type; the
    hyper-parameters are cast to it.  `momentum=0` is gradient descent, `p - lr g`, to the last bit.

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
def keras_update(p, g, v, lr, momentum, momentum_next, nesterov=True):
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
def caffe_update(p, g, v, lr, momentum, momentum_next, nesterov=True):
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
def bengio_update(p, g, v, lr, momentum, momentum_next, nesterov=True):
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


@inlined
def _constants(hyper, T, options):
    lr, momentum, momentum_next, weight_decay = hyper
    shrink = 1.0 - lr * weight_decay if options[2] == DECOUPLED else weight_decay
    return T(lr), T(momentum), T(momentum_next), T(shrink)


@inlined
def _update(p, g, state, constants, options):
    convention, nesterov, decay, maximize = options
    lr, momentum, momentum_next, weight_decay = constants
    (v,) = state
    if maximize:
        g = -g
    if decay == L2:
        g = fma(weight_decay, p, g)
    elif decay == DECOUPLED:
        p = mul(weight_decay, p)
    if convention == TORCH:
        p, v = nesterov_update(p, g, v, lr, momentum, momentum_next, nesterov)
    elif convention == KERAS:
        p, v = keras_update(p, g, v, lr, momentum, momentum_next, nesterov)
    elif convention == CAFFE:
        p, v = caffe_update(p, g, v, lr, momentum, momentum_next, nesterov)
    else:
        p, v = bengio_update(p, g, v, lr, momentum, momentum_next, nesterov)
    return p, (v,)


RULE = Rule(
    name="nesterov",
    update=_update,
    constants=_constants,
    states=("vel",),
    hyper={"lr": 0.01, "momentum": 0.9, "momentum_next": 0.9, "weight_decay": 0.0},
    options={
        "convention": (TORCH, KERAS, CAFFE, BENGIO),
        "nesterov": (True, False),
        "decay": (NO_DECAY, L2, DECOUPLED),
        "maximize": (False, True),
    },
)
