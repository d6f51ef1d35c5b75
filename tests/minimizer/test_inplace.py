"""`jac="inplace"`: the gradient is written where it is wanted, and nothing else changes."""

import numpy as np
import pytest
from numba import njit

from nagd_numba import minimize, minimize_many
from tests.helpers.backends import JIT_OFF

SCALES = np.geomspace(1e-2, 1.0, 5)


@njit
def inplace(x, g, centre, scales):
    total = 0.0
    for i in range(x.size):
        g[i] = scales[i] * (x[i] - centre)
        total += 0.5 * g[i] * (x[i] - centre)
    return total


@njit
def together(x, centre, scales):
    g = np.empty(x.size)
    return inplace(x, g, centre, scales), g


WAYS = [
    (inplace, together),
    (getattr(inplace, "py_func", inplace), getattr(together, "py_func", together)),
]


@pytest.mark.parametrize(("own", "pair"), WAYS, ids=["compiled", "python"])
@pytest.mark.parametrize("options", [{}, {"restart": "function"}], ids=["gradient", "values"])
def test_the_bits_of_a_pair(own, pair, options):
    found = minimize(own, np.zeros(5), (2.0, SCALES), "inplace", **options)
    expected = minimize(pair, np.zeros(5), (2.0, SCALES), True, **options)
    assert found.success
    assert np.array_equal(found.x, expected.x)
    assert np.array_equal(found.jac, expected.jac)
    for name in ("fun", "nit", "nfev", "njev", "L", "restarts"):
        assert found[name] == expected[name], name


def test_many():
    centres = np.arange(4.0)
    found = minimize_many(inplace, np.zeros((4, 5)), (centres,), (SCALES,), "inplace")
    assert np.array_equal(found.x, minimize_many(together, np.zeros((4, 5)), (centres,), (SCALES,), True).x)


@pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")
def test_in_compiled_code():
    @njit
    def solve(scales):
        return minimize(inplace, np.zeros(5), (2.0, scales), "inplace")

    assert np.array_equal(solve(SCALES).x, minimize(inplace, np.zeros(5), (2.0, SCALES), "inplace").x)


def test_what_does_not_fit():
    with pytest.raises(TypeError, match="jac is 'into'; None, True, 'inplace', or a function"):
        minimize(inplace, np.zeros(5), (2.0, SCALES), "into")
    with pytest.raises(TypeError, match=r"fun does not fit: it is called as fun\(x, g, \*args\) with 1 args"):
        minimize(inplace, np.zeros(5), (2.0,), "inplace")
    with pytest.raises(TypeError, match=r"fun returned (a NoneType|None)"):
        minimize(lambda x, g: None, np.zeros(5), (), "inplace")
