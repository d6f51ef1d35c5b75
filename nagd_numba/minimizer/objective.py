"""The function and its gradient as the loop asks for them, made of what the user gave: templates, bound to `fun`.

`evaluate(x, g, counts, wanted, bounded, lower, upper, args)` writes the gradient into `g` and returns the value (where
it is not `wanted`, perhaps 0 instead); `value(x, scratch, counts, args)` returns the value, and may write to `scratch`.
Where x is `bounded`, the functions are called within the bounds only.
"""

from __future__ import annotations

from ..kernels.template import template

NIT, NFEV, NJEV, RESTARTS, STALLED = range(5)  # what `counts` counts
COUNTS = 5

# The step of central differences with the least sum of truncation and rounding, relative to max(1, |x_i|).
DIFFERENCE = 2.0 ** (-52 / 3)


def take_elements(to, x):
    """`to = x`, in compiled code: cheaper to compile than an assignment to a slice."""
    if x.size != to.size:
        raise ValueError("the vectors that jac and prox return must have the length of x")
    for i in range(to.size):
        to[i] = x[i]


def take_array(to, x):
    """The same in Python."""
    if x.shape != to.shape:
        raise ValueError(f"jac or prox returned an array of shape {x.shape} for an x of shape {to.shape}")
    to[:] = x


@template
def evaluate_together(fun, take):
    """`jac=True`: `fun` returns both."""

    def evaluate_together(x, g, counts, wanted, bounded, lower, upper, args):
        f, gradient = fun(x, *args)
        take(g, gradient)
        counts[NFEV] += 1
        counts[NJEV] += 1
        return f

    return evaluate_together


@template
def value_together(fun):
    def value_together(x, scratch, counts, args):
        counts[NFEV] += 1
        counts[NJEV] += 1
        return fun(x, *args)[0]

    return value_together


@template
def evaluate_inplace(fun):
    """`jac="inplace"`: `fun` writes the gradient where it is wanted, and returns the value."""

    def evaluate_inplace(x, g, counts, wanted, bounded, lower, upper, args):
        counts[NFEV] += 1
        counts[NJEV] += 1
        return 0.0 + fun(x, g, *args)

    return evaluate_inplace


@template
def value_inplace(fun):
    def value_inplace(x, scratch, counts, args):
        counts[NFEV] += 1
        counts[NJEV] += 1
        return 0.0 + fun(x, scratch, *args)

    return value_inplace


@template
def evaluate_apart(fun, jac, take):
    """`jac` is a function of its own."""

    def evaluate_apart(x, g, counts, wanted, bounded, lower, upper, args):
        gradient = jac(x, *args)
        take(g, gradient)
        counts[NJEV] += 1
        f = 0.0
        if wanted:
            f += fun(x, *args)
            counts[NFEV] += 1
        return f

    return evaluate_apart


@template
def evaluate_differences(fun):
    """No `jac`: differences of values; `x` is as it was afterwards.

    Central ones, `(f(x + h e_i) - f(x - h e_i)) / 2h`; where a bound is nearer than h, one-sided ones of the same
    order, `(4 f(x + h e_i) - 3 f(x) - f(x + 2h e_i)) / 2h`, into the wider side.
    """

    def evaluate_differences(x, g, counts, wanted, bounded, lower, upper, args):
        f, known = 0.0, wanted
        if wanted:
            f += fun(x, *args)
            counts[NFEV] += 1
        for i in range(x.size):
            middle = x[i]
            h = DIFFERENCE * max(1.0, abs(middle))
            if bounded and (upper[i] - middle < h or middle - lower[i] < h):
                if not known:
                    f += fun(x, *args)
                    counts[NFEV] += 1
                    known = True
                above, below = upper[i] - middle, middle - lower[i]
                h = min(h, 0.5 * above) if above >= below else -min(h, 0.5 * below)
                x[i] = near = middle + h
                rise = 0.0
                if near != middle:
                    rise += 4.0 * fun(x, *args)
                    h = near - middle
                    x[i] = middle + 2.0 * h
                    rise -= fun(x, *args) + 3.0 * f
                    rise /= 2.0 * h
                    counts[NFEV] += 2
                x[i] = middle
                g[i] = rise  # 0 between bounds that leave no room
            else:
                x[i] = above = middle + h
                rise = 0.0 + fun(x, *args)
                x[i] = below = middle - h
                rise -= fun(x, *args)
                x[i] = middle
                g[i] = rise / (above - below)
                counts[NFEV] += 2
        counts[NJEV] += 1
        return f

    return evaluate_differences


@template
def value_alone(fun):
    def value_alone(x, scratch, counts, args):
        counts[NFEV] += 1
        return 0.0 + fun(x, *args)

    return value_alone
