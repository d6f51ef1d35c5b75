"""`minimize` called inside users' compiled code."""

import numpy as np
import pytest
from numba import njit

import nagd_numba
from nagd_numba import minimize
from tests.helpers.backends import JIT_OFF
from tests.helpers.springs import ARGS, SCALES, START, TARGET, energy_compiled, slope_compiled, springs_compiled

jitted = pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")


@njit
def many_inside(targets, scales):
    found = np.empty_like(targets)
    steps = 0
    for m in range(targets.shape[0]):
        result = nagd_numba.minimize(
            springs_compiled, np.zeros(targets.shape[1]), args=(scales, targets[m]), jac=True, tol=1e-6
        )
        found[m] = result.x
        steps += result.nit if result.success else -1_000_000
    return found, steps


@njit
def variants_inside(target, scales):
    x0, args = np.zeros(target.size), (scales, target)
    a = nagd_numba.minimize(energy_compiled, x0, args, slope_compiled, L=1.0, strong_convexity=1e-3, maxiter=50)
    b = nagd_numba.minimize(springs_compiled, x0, args, True, "gd", 1.0, prox="nonneg", maxiter=60)
    return a, b


@jitted
def test_inside_compiled_code():
    """The same bits as from Python."""
    targets = np.random.default_rng(1).normal(size=(5, 8))
    found, steps = many_inside(targets, SCALES)
    alone = [minimize(springs_compiled, START, (SCALES, t), True, tol=1e-6) for t in targets]
    assert np.array_equal(found, [one.x for one in alone])
    assert steps == sum(one.nit for one in alone)
    a, b = variants_inside(TARGET, SCALES)
    first = minimize(energy_compiled, START, ARGS, slope_compiled, L=1.0, strong_convexity=1e-3, maxiter=50)
    second = minimize(springs_compiled, START, ARGS, True, "gd", 1.0, prox="nonneg", maxiter=60)
    for inner, outer in ((a, first), (b, second)):
        assert np.array_equal(inner.x, outer.x)
        assert (inner.fun, inner.nit, inner.status, inner.success) == (outer.fun, outer.nit, outer.status, False)


@jitted
def test_what_compiled_code_refuses():
    from numba.core.errors import TypingError

    @njit
    def wrong_start(x):
        return minimize(springs_compiled, x, (x, x), True).x

    @njit
    def no_constant(x, method):
        return minimize(springs_compiled, x, (x, x), True, method).x

    @njit
    def bad_value(x, L):
        return minimize(springs_compiled, x, (x, x), True, L=L).x

    with pytest.raises(TypingError, match="a vector of float64 is needed"):
        wrong_start(np.ones((2, 2)))
    with pytest.raises(TypingError, match="method must be a constant"):
        no_constant(np.ones(2), "gd")
    with pytest.raises(ValueError, match="L must be finite and > 0"):
        bad_value(np.ones(2), -1.0)
