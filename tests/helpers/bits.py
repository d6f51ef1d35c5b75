"""Equality to the last bit."""

import numpy as np


def assert_same_bits(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8))


def same_bits(x, y):
    """Have two arrays of one type equal bits?"""
    return np.array_equal(np.asarray(x).view(np.uint8), np.asarray(y).view(np.uint8))
