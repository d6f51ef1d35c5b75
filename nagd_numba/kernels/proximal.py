"""Proximal maps of one number: what keeps an iterate where it has to be.

    prox(x) = argmin_z  h(z) + (z - x)^2 / (2 rate)

of a function `h` of the number alone.  Of a sum of `h` and a box it is the map of `h`, then the nearest number of the
box: numbers have no other way around.
"""

from __future__ import annotations

from .jit import inlined
from .rounding import add, div, fma, mul
from .template import template


@inlined
def soft_threshold(x, threshold):
    """The map of `weight |x|`, for `threshold = rate weight`: nearer to 0 by it, and 0 in between."""
    # In between the number itself is subtracted: 0, or NaN.
    return add(x, -not_above(not_below(x, -threshold), threshold))


@inlined
def not_below(x, lower):
    """The nearest number that is not below `lower`; NaN stays, and a limit that is NaN is none."""
    return lower if x < lower else x


@inlined
def not_above(x, upper):
    """The nearest number that is not above `upper`."""
    return upper if x > upper else x


@inlined
def unchanged(x, limit):
    """The map of nothing."""
    return x


@template
def extrapolation(prox, keep):
    def extrapolation(plain, iterate, before, momentum, values):
        """An accelerated method with a map: the next point, the move of the iterate, and are they the plain ones?

        plain     the next point of the method without a map
        iterate   its iterate, before the map
        before    the last iterate, behind the map
        momentum  what the next point adds of the move

        The point is kept in the bounds as well: where it would leave them, less of the move is added, and the move that
        is returned is so much less.  So the last iterate is what the point and the move tell, and

            F(x') + |x' - x|^2 / (2 lr)     with x' the iterate, x the last, F the function with the map's

        falls in every step, for a convex function, a rate up to 1/L and a momentum below 1: each element's point is the
        iterate and at most `momentum` times its move, and that is all that the proof of descent uses of it.
        """
        x = prox(iterate, values)
        move = add(x, -keep(before, values))  # it was in the bounds, but for rounding and a first point outside
        free = x == iterate
        point = plain if free else fma(momentum, move, x)
        kept = keep(point, values)
        if kept != point:
            move = mul(add(kept, -x), div(type(x)(1), momentum))  # a division once, and not for each element
        return kept, move, free & (kept == point)

    return extrapolation
