"""`fista_step`: the accelerated proximal gradient method, from Python and from inside `@njit` functions."""

from __future__ import annotations

from . import arrays
from .callers import in_compiled_code
from .compile import for_both
from .front import python_step
from .rules.fista import PROXES, RULE, next_t


def fista_step(params, grads, iterate, t, lr=0.01, prox="none", weight=0.0, stream=None, master=None, guard=None):
    """One step of FISTA, in place.

    With the gradient `g` of the smooth part at the extrapolated point `y`, and the iterate `x`:

        x' <- prox(y - lr g);    y <- x' + (t - 1)/fista_t(t) (x' - x);    x <- x'

    Parameters
    ----------
    params : array
        The extrapolated point `y`, where the gradient is taken; float32 or float64, any shape; modified in place.
        Every kind of array and place that `nagd_numba.step` takes, and lists of arrays.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    iterate : array
        The iterate `x`: the same again, a copy of `params` before the first step; modified in place.  It is the
        solution in the end, with the exact zeros that a prox makes.
    t : float
        `t_k`, >= 1: 1 in the first step, then `t = nagd_numba.fista_t(t)`, which is `(1 + sqrt(1 + 4 t^2))/2`.  To
        restart, set it to 1 and `params` to `iterate`.
    lr : float
        Step size, finite, >= 0: at most `1/L` for a gradient with the Lipschitz constant `L`.
    prox : {"none", "l1", "nonneg"}
        Of the other part: nothing; `weight |x|_1`; the numbers >= 0.
    weight : float
        Of the L1 norm, finite, >= 0.
    stream, master, guard : optional
        As for `nagd_numba.step`.

    Returns
    -------
    params, the same object.

    Raises
    ------
    TypeError, ValueError
        For unfit arrays or values, before anything is written.
    RuntimeError
        For device arrays where CUDA cannot be used.

    Notes
    -----
    With `lr <= 1/L` the objective after `k` steps is at most `2 |x_0 - x*|^2 / (lr (k+1)^2)` above its minimum.  Inside
    `@njit` functions and in `prange` as `nagd_numba.step`, with `prox` a constant; inside a `@cuda.jit` kernel use
    `nagd_numba.fista_update` on scalars.

    References
    ----------
    A. Beck and M. Teboulle, SIAM J. Imaging Sci. 2 (2009) 183.

    Examples
    --------
    The minimum of `(x - b)^2/2 + |x|`, elementwise, is `b` moved towards 0 by 1:

    >>> import numpy as np
    >>> import nagd_numba
    >>> b = np.array([3.0, 0.5, -2.0])
    >>> y, t = np.zeros(3), 1.0
    >>> x = y.copy()
    >>> for _ in range(100):
    ...     _ = nagd_numba.fista_step(y, y - b, x, t, lr=0.5, prox="l1", weight=1.0)
    ...     t = nagd_numba.fista_t(t)
    >>> x.round(6)
    array([ 2.,  0., -1.])
    """
    _python_step(params, grads, (iterate,), (lr, weight, t), (prox,), stream, master, guard)
    return params


@for_both
def fista_t(t):
    """`t_{k+1} = (1 + sqrt(1 + 4 t_k^2))/2`; in `@njit` functions too.

    >>> fista_t(1.0)
    1.618033988749895
    """
    return next_t(1.0 * t)


def _options(prox):
    return (arrays.choice("prox", prox, PROXES),)


_python_step = python_step(RULE, _options)
in_compiled_code(fista_step, RULE, ("prox",), _options)
