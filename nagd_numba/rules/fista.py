r"""FISTA: the accelerated proximal gradient method, for a smooth function plus a simple one.

With the gradient `g` of the smooth part at the extrapolated point `y` (the parameters), the iterate `x`, and `t_k`:

    x' <- prox(y - lr g)
    y  <- x' + (t_k - 1)/t_{k+1} (x' - x)           t_1 = 1,    t_{k+1} = (1 + sqrt(1 + 4 t_k^2))/2
    x  <- x'

======== ============================== ===========================================================
prox     of                             is
======== ============================== ===========================================================
none     0                              x
l1       lr weight |x|                  0 where |x| <= lr weight, else x, nearer to 0 by lr weight
nonneg   0 where x >= 0, else infinity  max(x, 0)
======== ============================== ===========================================================

Without a prox, at constant `lr`, this is `nesterov` with the two momenta of `t_k`.  It keeps the iterate and not a
velocity, so that the zeros that a prox makes are zeros of `x`, and a change of `lr` (backtracking) needs no correction.

Every rounding is named: `x' = prox(fma(-lr, g, y))`, `y = fma(beta, rnd(x' - x), x')`.

References: A. Beck and M. Teboulle, SIAM J. Imaging Sci. 2 (2009) 183; Y. Nesterov, Soviet Math. Dokl. 27 (1983) 372.
"""

from __future__ import annotations

import math

from ..arrays import Range
from ..compile import inlined
from ..rounding import add, div, fma
from .base import Rule

PROXES = ("none", "l1", "nonneg")
NONE, L1, NONNEGATIVE = range(3)


@inlined
def fista_update(p, g, x, lr, beta, threshold=0.0, prox=NONE):
    """One element of FISTA: returns the new extrapolated point and the new iterate, `(p, x)`.

        x' = prox(p - lr g);    p = x' + beta (x' - x)

    For use inside `@njit` and `@cuda.jit` functions, on scalars `p`, `g`, `x` of one floating type; the
    hyper-parameters are cast to it.  `prox` is a constant: 0 for none, 1 to move towards 0 by `threshold` (the L1
    norm), 2 for numbers >= 0.
    """
    T = type(p)
    new = fma(T(-lr), g, p)
    if prox == L1:
        threshold = T(threshold)
        # In between the number itself is subtracted: 0, or NaN.
        new = add(new, -threshold if new > threshold else threshold if new < -threshold else -new)
    elif prox == NONNEGATIVE:
        new = T(0) if new < 0 else new
    return fma(T(beta), add(new, -x), new), new


@inlined
def next_t(t):
    """`t_{k+1}`."""
    return (1.0 + math.sqrt(1.0 + 4.0 * t * t)) / 2.0


@inlined
def _constants(hyper, T, options):
    lr, weight, t = hyper
    return T(lr), T(div(t - 1.0, next_t(t))), T(lr * weight)


@inlined
def _update(p, g, state, constants, options):
    (prox,) = options
    lr, beta, threshold = constants
    p, x = fista_update(p, g, state[0], lr, beta, threshold, prox)
    return p, (x,)


RULE = Rule(
    name="fista",
    update=_update,
    constants=_constants,
    states=("iterate",),
    hyper={"lr": 0.01, "weight": 0.0, "t": 2.0},
    options={"prox": (NONE, L1, NONNEGATIVE)},
    ranges={"t": Range(low=1.0, below=2.0**53)},
)
