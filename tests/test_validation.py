"""Checks of single values, and the messages that name the function."""

import math
import re

import numpy as np
import pytest

from nagd_numba import MLP
from nagd_numba.validation import number, prefixed, whole


def test_the_public_function_is_named():
    @prefixed("outer")
    def outer():
        with prefixed("inner"):
            whole("n", 0)

    with pytest.raises(ValueError, match=r"^inner: n is 0"):  # `outer` hears of it through a function of the user's
        outer()
    with pytest.raises(ValueError, match=r"^MLP.fit: batch_size is 0; a whole number from 1 on is needed$"):
        MLP([1, 1], loss="mse").fit(np.zeros(2, np.float32), [[1.0]], [1.0], batch_size=0)


def test_errors_of_users_functions_are_left_alone():
    def function():
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"), prefixed("minimize"):
        function()


@pytest.mark.parametrize("x", [1, np.int8(1), np.uint64(1), np.array(1)])
def test_whole_numbers(x):
    found = whole("n", x)
    assert type(found) is int
    assert found == 1


@pytest.mark.parametrize("x", [True, 1.0, "1", None, np.array([1])])
def test_what_is_no_whole_number(x):
    with pytest.raises(TypeError, match=r"n is .*; a whole number is needed"):
        whole("n", x)


@pytest.mark.parametrize(
    ("x", "limits", "message"),
    [
        (0, {"low_open": True}, "x is 0; a finite number > 0 is needed"),
        (-1, {}, "x is -1; a finite number >= 0 is needed"),
        (1, {"high": 1.0, "high_open": True}, "x is 1; a finite number >= 0 and < 1 is needed"),
        (-(2**60), {}, "x is -1152921504606846976; a finite number >= 0 is needed"),
        (0.6, {"high": 0.5}, "x is 0.6; a finite number >= 0 and <= 0.5 is needed"),
        (math.inf, {}, "x is inf; a finite number >= 0 is needed"),
        (math.nan, {"finite": False}, "x is nan; a number >= 0 is needed"),
        (10**400, {}, "x is inf; a finite number >= 0 is needed"),
    ],
)
def test_numbers_out_of_range(x, limits, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        number("x", x, **limits)


@pytest.mark.parametrize("x", [True, False, np.True_, "1", b"1", None, [1.0], 1j])
def test_what_is_no_number(x):
    with pytest.raises(TypeError, match=r"x is .*; a number is needed"):
        number("x", x)


def test_numbers_in_range():
    assert number("x", 0) == 0.0
    assert number("x", np.float32(0.5), high=0.5) == 0.5
    assert number("x", math.inf, finite=False) == math.inf
