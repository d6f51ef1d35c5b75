"""Whole powers against exact arithmetic: in Python's fractions, which float() rounds once."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from nagd_numba.kernels.jit import plain
from nagd_numba.kernels.power import product, whole_power
from tests.helpers.backends import JIT_OFF


@njit
def compiled(x, t):
    return whole_power(x, t)


def exact(x, t):
    return float(Fraction(x) ** t)


@settings(max_examples=20 if JIT_OFF else 300)
@given(x=st.one_of(st.sampled_from([0.9, 0.95, 0.99, 0.999]), st.floats(0.3, 1.0)), t=st.integers(0, 400))
def test_it_is_the_rounded_power(x, t):
    wanted = exact(x, t)
    if wanted > 1e-270:
        assert compiled(x, float(t)) == wanted


@pytest.mark.parametrize(("x", "t"), [(0.0, 1), (0.0, 0), (1.0, 2**53 - 1), (0.5, 1000), (0.1, 10**9), (0.999, 2**50)])
def test_the_ends(x, t):
    assert compiled(x, float(t)) == (math.pow(x, t) if x > 0 or t > 0 else 1.0)


def test_from_python():
    """As with the JIT off; the C library is near."""
    rng = np.random.default_rng(0)
    for x, t in zip(rng.uniform(0.5, 1.0, 50).tolist(), rng.integers(1, 200, 50).tolist(), strict=True):
        assert plain(whole_power)(x, float(t)) == exact(x, t)
        assert abs(x**t - exact(x, t)) <= 2 * np.spacing(exact(x, t))
    high, low = plain(product)(1.0, 2.0**-60, 1.0, 0.0)
    assert (high, low) == (1.0, 2.0**-60)
