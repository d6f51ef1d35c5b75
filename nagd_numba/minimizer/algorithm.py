r"""The iteration, written once: templates, compiled for CPU or device with the user's functions, or run as Python.

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

(CONSTANT and HEAVY take a momentum that is given as it is, with s = 1/L.)  Bounds hold for `y` too: it is projected
onto them, which takes it nearer to every point within, so the proofs stand.

Backtracking.  `f` is evaluated once for each iteration, at the next look-ahead point y'.  With the model of F about y,

    phi = f(y) + <g, z - y> + L/2 |z - y|^2 + h(z),

`L` is doubled, and the step done anew from the same y, unless

    f(y') + <g', z - y'> <= f(y) + <g, z - y> + L/2 |z - y|^2

(and unless the curvature between y and y' is below 2^10 L, which keeps y' from where f overflows).  This is all that
the proof of FISTA's bound asks of L: for a convex f the left side is at most f(z), and phi takes the place of F(x_k).
Where values of F are needed anyway, f(z) stands on the left.  Values that differ by less than `noise` (relative) say
nothing of L: there the gradients decide, by `<g' - g, z - (y + y')/2> <= L/2 |z - y|^2`, the same for a quadratic f.

A look-ahead point at which f or its gradient is not finite, or that no L up to 2^10 times the last one makes fit, is
given up for z itself (`beta = 0`); with adaptive restart so is one where f is higher than before.

L falls where the curvature has: if the least L that fits has been below L/4 for a while, and a difference of gradients
along the direction of the steepest curvature that was seen is too, then the step after the next one takes twice the
greater of the two.  PLAIN needs nothing for that.  SEQUENCE takes t_{k+1} = (1 + sqrt(1 + 4 r t_k^2))/2, r = L'/L, so
that `A_k = t_k^2/L_k` grows as before, and

    phi_k - F* <= R^2/(2 A_k),   sqrt(A_k) >= sum_{i <= k} 1/(2 sqrt(L_i))

With a strong convexity, the rates of CONSTANT and HEAVY need one L, which never falls.

Sources: Y. Nesterov, Introductory Lectures (2004), 2.2; A. Beck, M. Teboulle, SIAM J. Imaging Sci. 2 (2009) (FISTA,
backtracking), IEEE Trans. Image Process. 18 (2009) (monotone); K. Scheinberg, D. Goldfarb, X. Bai, Found. Comput. Math.
14 (2014) (an L that falls); W. Hager, H. Zhang, SIAM J. Optim. 16 (2005) (gradients in place of noisy values);
B. O'Donoghue, E. Candes, Found. Comput. Math. 15 (2015) (restarts); B. Polyak, USSR Comput. Math. Math. Phys. 4 (1964).
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
PRECISION = 10

# What `numbers` holds: L, the L that comes after this iteration (0: this one), t_k, f(y), F(x), the least F (for ftol),
# F at the start, the least F seen in a search, and the decaying maximum of the curvatures that were met.
CURVATURE, FOLLOWING, SEQUENCE_T, VALUE, TOTAL, BEST, FIRST, SEEN, STEEPEST = range(9)
NUMBERS = 9

# The rows of `work`: y, z, g, y', g', the direction of the steepest curvature, the best point that was seen.
Y, Z, G, AHEAD, AHEAD_G, DIRECTION, SEEN_AT = range(7)
VECTORS = 7

DOUBLINGS = 100  # of L in one iteration
EXTRAPOLATED = 10  # doublings after which the look-ahead is given up
WILD = 2.0**10  # how far above L the curvature between y and y' may be
TOLERANCE = 1.0 + 2.0**-10  # of a curvature against L, which may have been measured as that curvature
PATIENCE = 10  # iterations in a row without a decrease
HIGHER = 2.0**-40  # relative: by how much the end may lie above the start through rounding
NOISE = 1e-6  # of values of `fun`, relative: in differences below it gradients are trusted, not values
PROBE = 1e-6  # the length of a look around, relative to max(1, |x|)
DECAY = 0.95  # of the steepest curvature, in an iteration
FALL = 4.0  # how far L lies above the curvature before it falls
ABOVE = 2.0  # where it falls to, in units of the curvature


class Settings(NamedTuple):
    """What does not change while it runs."""

    scheme: int
    restart: int
    monotone: int
    search: int  # is L found by backtracking?
    tracks: int  # is F evaluated at every iterate?
    bounded: int  # is the prox a projection onto bounds?
    valued: int  # is h known?
    maxiter: int
    tol: float
    ftol: float
    noise: float
    curvature: float  # L; with `search` where it starts, 0 for a look around
    convexity: float  # m
    momentum: float  # of CONSTANT and HEAVY; below 0: the one of q


@template
def start(evaluate, prox, penalty, largest, length, distance, descend, difference, copy):
    """Set all to the beginning at `x`; returns RUNNING, or START where that is no place to start from."""

    def start(x, work, numbers, counts, settings, first, second, number, args):
        y, z, g = work[Y], work[Z], work[G]
        for k in range(counts.size):
            counts[k] = 0
        for k in range(numbers.size):
            numbers[k] = 0.0
        numbers[SEQUENCE_T] = 1.0
        copy(work[SEEN_AT], x)
        f = evaluate(x, g, counts, True, settings.bounded, first, second, args)
        numbers[VALUE] = f
        total = f + penalty(x, first, second, args)
        numbers[TOTAL] = numbers[BEST] = numbers[FIRST] = numbers[SEEN] = total
        if not (math.isfinite(total) and math.isfinite(largest(g))):
            return START
        copy(y, x)
        curvature = settings.curvature
        if settings.search and curvature == 0.0:
            norm, size = length(g), max(1.0, length(x))
            if norm > 0.0:
                step = PROBE * size / norm
                descend(z, x, g, step)
                prox(z, step, first, second, args)
                moved = distance(z, x)
                if moved > 0.0:
                    evaluate(z, work[AHEAD_G], counts, False, settings.bounded, first, second, args)
                    difference(work[DIRECTION], work[AHEAD_G], g)
                    curvature = length(work[DIRECTION]) / moved
                if not (curvature > 0.0 and math.isfinite(curvature)):  # as good as straight: a step of the size of x
                    curvature = norm / size
            if curvature < 1e-300:
                curvature = 1e-300
        numbers[CURVATURE] = curvature
        return RUNNING

    return start


@template
def steepness(evaluate, prox, length, distance, descend, difference):
    """The curvature of f at y along the steepest direction that is known, by a difference of gradients."""

    def steepness(work, counts, settings, first, second, args):
        y, g, near, direction = work[Y], work[G], work[AHEAD], work[DIRECTION]
        norm = length(direction)
        if not (norm > 0.0 and math.isfinite(norm)):
            return math.inf
        descend(near, y, direction, -PROBE * max(1.0, length(y)) / norm)
        if settings.bounded:
            prox(near, 1.0, first, second, args)
        moved = distance(near, y)
        if moved == 0.0:
            return math.inf
        evaluate(near, work[AHEAD_G], counts, False, settings.bounded, first, second, args)
        difference(direction, work[AHEAD_G], g)  # a step of the power method
        rise = length(direction)
        return rise / moved if math.isfinite(rise) and rise > 0.0 else math.inf

    return steepness


@template
def advance(
    evaluate,
    value,
    prox,
    penalty,
    proximal,
    largest,
    descend,
    compare,
    extrapolate,
    judge,
    copy,
    accept,
    steepness,
):
    """At most `steps` iterations; returns RUNNING, or why it ended."""

    def advance(x, work, numbers, counts, settings, first, second, steps, args):
        y, z, g, ahead, ahead_g = work[Y], work[Z], work[G], work[AHEAD], work[AHEAD_G]
        search, tracks, scheme = settings.search != 0, settings.tracks != 0, settings.scheme
        constrained = proximal(args)
        falls = search and (scheme <= SEQUENCE or settings.convexity == 0.0)
        for _ in range(steps):
            point = x if scheme == HEAVY else y
            f = numbers[VALUE]
            size = largest(g)
            if not constrained and size <= settings.tol:
                copy(x, point)
                return GRADIENT
            if counts[NIT] >= settings.maxiter:
                return MAXITER

            doublings, alone, restarts = 0, False, 0
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
                if constrained and most <= settings.tol * step:
                    copy(x, z)
                    counts[NIT] += 1
                    return GRADIENT
                at_z, total, fits = 0.0, 0.0, True
                if tracks:
                    at_z = value(z, ahead_g, counts, args)
                    total = at_z + penalty(z, first, second, args)
                    fits = math.isfinite(total)

                momentum, ratio, following, restarts = 0.0, 1.0, 1.0, 0
                if scheme == SEQUENCE:
                    t = numbers[SEQUENCE_T]
                    change = numbers[FOLLOWING] / curvature if numbers[FOLLOWING] > 0.0 else 1.0
                    following = (1.0 + math.sqrt(1.0 + 4.0 * change * t * t)) / 2.0
                    momentum, ratio = (t - 1.0) / following, t / following
                    if (
                        alone
                        or (settings.restart == BY_GRADIENT and turn > 0.0)
                        or (settings.restart == BY_FUNCTION and total > numbers[TOTAL])
                    ):
                        momentum, ratio, following, restarts = 0.0, 0.0, 1.0, 1
                elif scheme != PLAIN:
                    momentum = settings.momentum
                    if momentum < 0.0:
                        momentum = (1.0 - math.sqrt(q)) / (1.0 + math.sqrt(q))
                        if scheme == HEAVY:
                            momentum *= momentum
                    if alone:
                        momentum, restarts = 0.0, 1
                reject = settings.monotone != 0 and total > numbers[TOTAL]
                if reject:
                    extrapolate(ahead, x, z, -ratio)
                else:
                    extrapolate(ahead, z, x, 0.0 if scheme == HEAVY else momentum)
                if settings.bounded:
                    prox(ahead, step, first, second, args)

                rise = curvature * square  # of what was met outside the domain
                f_ahead, small, finite = 0.0, False, fits
                if fits:
                    f_ahead = evaluate(ahead, ahead_g, counts, search, settings.bounded, first, second, args)
                    fits = finite = math.isfinite(f_ahead) and math.isfinite(largest(ahead_g))
                if fits and search:
                    beyond, bent, climb, far = judge(z, point, ahead, g, ahead_g)
                    scale = settings.noise * max(abs(f), abs(f_ahead))
                    small = abs(f_ahead - f) <= scale
                    if tracks:
                        rise = at_z - f - slope
                        small = small and abs(at_z - f) <= scale
                    else:
                        rise = f_ahead + beyond - f - slope
                    if small and bent < rise:
                        rise = bent
                    fits = rise <= 0.5 * curvature * square * TOLERANCE and (small or climb <= WILD * curvature * far)
                    if fits and settings.restart != NEVER and momentum > 0.0 and f_ahead > f and not (small or tracks):
                        alone = True
                        continue
                if fits:
                    break
                extrapolated = not alone and (scheme == HEAVY or momentum > 0.0 or reject)
                if extrapolated and (not search or not finite or doublings >= EXTRAPOLATED):
                    alone = True
                    if scheme == HEAVY:
                        copy(y, x)
                    continue
                if not search:
                    return DIVERGED
                if doublings == DOUBLINGS or (doublings > 0 and most == 0.0):
                    return PRECISION if small else SEARCH if finite else DIVERGED
                doublings += 1
                numbers[CURVATURE], numbers[FOLLOWING] = 2.0 * curvature, 0.0

            counts[NIT] += 1
            counts[RESTARTS] += restarts
            if tracks and total < numbers[SEEN]:
                numbers[SEEN] = total
                copy(work[SEEN_AT], z)
            elif search and settings.valued and not tracks:
                total = f_ahead + penalty(ahead, first, second, args)
                if total < numbers[SEEN]:
                    numbers[SEEN] = total
                    copy(work[SEEN_AT], ahead)
            if scheme == HEAVY:
                extrapolate(ahead, z, x, momentum)
            if reject:
                copy(z, x)
                total = numbers[TOTAL]
            accept(x, z, y, ahead, g, ahead_g)
            numbers[VALUE], numbers[TOTAL], numbers[SEQUENCE_T] = f_ahead, total, following
            if falls:
                if numbers[FOLLOWING] > 0.0:
                    curvature = numbers[CURVATURE] = numbers[FOLLOWING]
                    numbers[FOLLOWING] = 0.0
                steepest = 2.0 * rise / square if square > 0.0 else 0.0
                if steepest < DECAY * numbers[STEEPEST]:
                    steepest = DECAY * numbers[STEEPEST]
                if doublings > 0:
                    steepest = max(steepest, 0.5 * curvature)
                elif steepest * FALL <= curvature:
                    steepest = max(steepest, steepness(work, counts, settings, first, second, args))
                    if steepest * FALL <= curvature:
                        numbers[FOLLOWING], steepest = ABOVE * steepest, 0.0
                numbers[STEEPEST] = min(steepest, curvature)
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
def conclude(evaluate, penalty, copy):
    """The value and the gradient (of `f`) at the end; returns what to call it.

    Where it failed, or lies above the start, the end is the best point that was seen.
    """

    def conclude(x, work, numbers, counts, settings, first, second, status, args):
        if status == START:
            return START
        begin = numbers[FIRST]
        total = evaluate(x, work[G], counts, True, settings.bounded, first, second, args)
        total += penalty(x, first, second, args)
        higher = not (math.isfinite(total) and total <= begin + HIGHER * max(abs(begin), abs(total)))
        if higher and status < DIVERGED:
            status = ROSE if math.isfinite(total) else DIVERGED
        if higher or (status >= DIVERGED and total > numbers[SEEN]):
            copy(x, work[SEEN_AT])
            total = evaluate(x, work[G], counts, True, settings.bounded, first, second, args)
            total += penalty(x, first, second, args)
        numbers[TOTAL] = total
        return status

    return conclude


@template
def solve(start, advance, conclude):
    """From the start to the end in one call; returns the status."""

    def solve(x, work, numbers, counts, settings, first, second, args):
        status = start(x, work, numbers, counts, settings, first, second, 0, args)
        while status == RUNNING:
            status = advance(x, work, numbers, counts, settings, first, second, 1_000_000, args)
        return conclude(x, work, numbers, counts, settings, first, second, status, args)

    return solve
