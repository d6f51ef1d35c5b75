r"""The iteration, written once: templates that run compiled where the user's functions are, and as Python elsewhere.

It minimises `F = f + h`, `f` smooth, by steps from a look-ahead point `y`:

    z = prox(y - s g),  s = 1/L,  g = the gradient of f at y      (at x for the heavy ball)
    y <- z + beta (z - x);  x <- z

with `beta` from the scheme:

=========== ======================================================================= ==========================
scheme      beta                                                                    guarantee
=========== ======================================================================= ==========================
PLAIN       0  (s = 2/(L + m) with m > 0)                                           O(1/k);  ((L-m)/(L+m))^2k
SEQUENCE    (t_k - 1)/t_{k+1},  t_{k+1} = (1 + sqrt(1 + 4 t_k^2))/2,  t_1 = 1       F - F* <= 2 L R^2/(k+1)^2
CONSTANT    (1 - sqrt q)/(1 + sqrt q),  q = m/L                                     (1 - sqrt q)^k
HEAVY       ((1 - sqrt q)/(1 + sqrt q))^2,  s = 4/(sqrt L + sqrt m)^2               quadratics only
=========== ======================================================================= ==========================

(CONSTANT and HEAVY take a momentum that is given as it is, with s = 1/L.)

Backtracking doubles `L` until `f(z) <= f(y) + <g, z - y> + L/2 |z - y|^2`: the condition of the theory, where `h` has
no part.  `L` never falls, since the bounds need that.

Sources: Y. Nesterov, Introductory Lectures (2004), 2.2; A. Beck, M. Teboulle, SIAM J. Imaging Sci. 2 (2009) (FISTA,
backtracking), IEEE Trans. Image Process. 18 (2009) (monotone); B. O'Donoghue, E. Candes, Found. Comput. Math. 15
(2015) (restarts); B. Polyak, USSR Comput. Math. Math. Phys. 4 (1964) (heavy ball).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..kernels.template import template
from .objective import NIT, RESTARTS, STALLED

PLAIN, SEQUENCE, CONSTANT, HEAVY = range(4)
NEVER, BY_GRADIENT, BY_FUNCTION = range(3)

# What ended it; the first two are success.
RUNNING, GRADIENT, DECREASE, MAXITER, TIME, CALLBACK, START, DIVERGED, SEARCH, ROSE = range(-1, 9)
RAISED = 9  # a function raised an exception: in one of many problems, or in a thread where nobody hears it

# What `numbers` holds: L, t_k, beta, F(x), the least F, and F at the start.
CURVATURE, SEQUENCE_T, MOMENTUM, TOTAL, BEST, FIRST = range(6)
NUMBERS = 6

DOUBLINGS = 30  # of L in one iteration
PATIENCE = 10  # iterations in a row without a decrease
ROUNDING = 2.0**-40  # of values of `fun`, relative: below it their differences say nothing of L
HIGHER = 2.0**-40  # relative: by how much the end may lie above the start through rounding
PROBE = 1e-6  # the length of the first look around, relative to max(1, |x|)


class Settings(NamedTuple):
    """What does not change while it runs."""

    scheme: int
    restart: int
    monotone: int
    search: int  # is L found by backtracking?
    tracks: int  # is F evaluated at every iterate?
    maxiter: int
    tol: float
    ftol: float
    curvature: float  # L; with `search` where it starts, 0 for a look around
    convexity: float  # m
    momentum: float  # of CONSTANT and HEAVY; below 0: the one of q


@template
def start(evaluate, value, prox, penalty, length, distance, descend, copy):
    """Set all to the beginning at `x`."""

    def start(x, y, z, g, numbers, counts, settings, first, second, number, args):
        for k in range(counts.size):
            counts[k] = 0
        for k in range(numbers.size):
            numbers[k] = 0.0
        numbers[SEQUENCE_T] = 1.0
        numbers[CURVATURE] = settings.curvature
        if settings.search and settings.curvature == 0.0:
            evaluate(x, y, counts, False, args)
            norm, size = length(y), max(1.0, length(x))
            curvature = 0.0
            if norm > 0.0 and math.isfinite(norm):
                step = PROBE * size / norm
                descend(z, x, y, step)
                prox(z, step, first, second, args)
                moved = distance(z, x)
                if moved > 0.0:
                    evaluate(z, g, counts, False, args)
                    curvature = distance(g, y) / moved
                if not (curvature > 0.0 and math.isfinite(curvature)):  # as good as straight: a step of the size of x
                    curvature = norm / size
            numbers[CURVATURE] = max(curvature, 1e-300)
        copy(y, x)
        total = value(x, counts, args) + penalty(x, first, second, args)
        numbers[TOTAL] = numbers[BEST] = numbers[FIRST] = total
        return RUNNING

    return start


@template
def advance(evaluate, value, prox, penalty, proximal, largest, descend, compare, copy, accept, reject):
    """At most `steps` iterations; returns RUNNING, or why it ended."""

    def advance(x, y, z, g, numbers, counts, settings, first, second, steps, args):
        search, tracks, scheme = settings.search != 0, settings.tracks != 0, settings.scheme
        constrained = proximal(args)
        for _ in range(steps):
            point = x if scheme == HEAVY else y
            f = evaluate(point, g, counts, search, args)
            size = largest(g)
            if counts[NIT] == 0 and not (math.isfinite(numbers[FIRST]) and math.isfinite(size)):
                return START
            if not (math.isfinite(f) and math.isfinite(size)):
                if not search or numbers[MOMENTUM] == 0.0:  # at x itself
                    return DIVERGED
                copy(y, x)  # the look-ahead left the domain
                numbers[MOMENTUM], numbers[SEQUENCE_T] = 0.0, 1.0
                counts[RESTARTS] += 1
                continue
            if not constrained and size <= settings.tol:
                copy(x, point)
                return GRADIENT
            if counts[NIT] >= settings.maxiter:
                return MAXITER

            at_z, most = 0.0, 0.0
            doublings = 0
            while True:
                curvature = numbers[CURVATURE]
                q = min(settings.convexity / curvature, 1.0)
                step = 1.0 / curvature
                if scheme == HEAVY and settings.momentum < 0.0:
                    step = 4.0 / (curvature * (1.0 + math.sqrt(q)) ** 2)
                elif scheme == PLAIN and q > 0.0:
                    step = 2.0 / (curvature + settings.convexity)
                descend(z, y, g, step)
                prox(z, step, first, second, args)
                slope, square, turn, most = compare(point, z, x, y, g)
                if not search:
                    break
                at_z = value(z, counts, args)
                slack = ROUNDING * max(abs(f), abs(at_z))
                if at_z <= f + slope + 0.5 * curvature * square + slack:
                    break
                if doublings == DOUBLINGS:
                    return SEARCH
                doublings += 1
                numbers[CURVATURE] = 2.0 * curvature
            counts[NIT] += 1
            if constrained and most <= settings.tol * step:
                copy(x, z)
                return GRADIENT
            total = 0.0
            if tracks:
                total = (at_z if search else value(z, counts, args)) + penalty(z, first, second, args)
                if not math.isfinite(total):
                    return DIVERGED

            momentum, ratio, following = 0.0, 1.0, 1.0
            if scheme == SEQUENCE:
                t = numbers[SEQUENCE_T]
                following = (1.0 + math.sqrt(1.0 + 4.0 * t * t)) / 2.0
                momentum, ratio = (t - 1.0) / following, t / following
                if (settings.restart == BY_GRADIENT and turn > 0.0) or (
                    settings.restart == BY_FUNCTION and total > numbers[TOTAL]
                ):
                    momentum, ratio, following = 0.0, 0.0, 1.0
                    counts[RESTARTS] += 1
            elif scheme != PLAIN:
                momentum = settings.momentum
                if momentum < 0.0:
                    momentum = (1.0 - math.sqrt(q)) / (1.0 + math.sqrt(q))
                    if scheme == HEAVY:
                        momentum *= momentum
            numbers[SEQUENCE_T] = following
            if settings.monotone and total > numbers[TOTAL]:
                reject(y, x, z, ratio)
                numbers[MOMENTUM] = ratio
                total = numbers[TOTAL]
            else:
                accept(y, x, z, momentum)
                numbers[MOMENTUM], numbers[TOTAL] = momentum, total
            if settings.ftol > 0.0:
                margin = settings.ftol * max(abs(total), 1.0)
                if total < numbers[BEST] - margin:
                    numbers[BEST] = total
                    counts[STALLED] = 0
                elif total > numbers[BEST] + margin:  # a ripple, or worse: no rest
                    counts[STALLED] = 0
                else:
                    counts[STALLED] += 1
                    if counts[STALLED] >= PATIENCE:
                        return DECREASE
        return RUNNING

    return advance


@template
def conclude(evaluate, penalty):
    """The value and the gradient (of `f`) at the end; returns what to call it."""

    def conclude(x, y, z, g, numbers, counts, settings, first, second, status, args):
        total = evaluate(x, g, counts, True, args) + penalty(x, first, second, args)
        numbers[TOTAL] = total
        begin = numbers[FIRST]
        if status == START or not math.isfinite(begin):
            return START
        if not math.isfinite(total):
            return DIVERGED
        if status <= DECREASE and total > begin + HIGHER * max(abs(begin), abs(total)):
            return ROSE
        return status

    return conclude


@template
def solve(start, advance, conclude):
    """From the start to the end in one call; returns the status."""

    def solve(x, g, z, y, numbers, counts, settings, first, second, args):
        start(x, y, z, g, numbers, counts, settings, first, second, 0, args)
        status = RUNNING
        while status == RUNNING:
            status = advance(x, y, z, g, numbers, counts, settings, first, second, 1_000_000, args)
        return conclude(x, y, z, g, numbers, counts, settings, first, second, status, args)

    return solve
