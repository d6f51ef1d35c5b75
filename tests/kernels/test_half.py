"""Rounding to 16 bits by NumPy, whose bits kernels have (optimizers/test_storage), against ml_dtypes and exact sums."""

import numpy as np
import pytest

from nagd_numba.kernels import half

ml_dtypes = pytest.importorskip("ml_dtypes")

DTYPES = {np.dtype(np.uint16): np.dtype(ml_dtypes.bfloat16), np.dtype(np.int16): np.dtype(np.float16)}
kinds = pytest.mark.parametrize("kind", DTYPES, ids=map(str, DTYPES.values()))


def numbers(count=2000):
    rng = np.random.default_rng(0)
    made = rng.integers(0, 2**32, count, np.uint32).view(np.float32)  # all exponents
    usual = rng.normal(size=count).astype(np.float32)
    small = (rng.normal(size=count) * 2.0**-16).astype(np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 65519, 65520, 2.0**-25, 2.0**-24, 3.4e38], np.float32)
    return np.concatenate([made, usual, small, special])


@kinds
def test_nearest_and_back(kind):
    x, dtype = numbers(), DTYPES[kind]
    with np.errstate(all="ignore"):
        wanted = x.astype(dtype)
    made = half.narrowed(x, kind)
    real = ~np.isnan(x)
    np.testing.assert_array_equal(made[real], wanted[real].view(kind))
    assert np.isnan(made[~real].view(dtype).astype(np.float32)).all()
    everything = np.arange(2**16, dtype=np.uint16).view(kind)
    np.testing.assert_array_equal(half.widened(everything), everything.view(dtype).astype(np.float32))


@kinds
def test_random_bits_round_to_a_neighbour_and_to_the_value_on_average(kind):
    """All 2^16 random numbers: their mean is exact, but for float16's subnormal numbers, where 2^-40 may be missing."""
    dtype, rng = DTYPES[kind], np.random.default_rng(1)
    every = np.arange(2**16, dtype=np.uint32) + np.uint32(0xABCD0000)  # upper bits do not count
    usual = rng.normal(size=12) * 2.0 ** rng.integers(-30, 15, 12)
    least = 2.0**-40 if dtype == np.float16 else 1e-38
    for x in np.append(usual, [1.0, 0.0, 65504.0, 2.0**-14 - 2.0**-30, 2.0**-25, least]).astype(np.float32):
        made = half.narrowed(np.full(every.size, x), kind, every).view(dtype).astype(np.float64)
        found = np.unique(made)
        assert found.size <= 2
        assert found[0] <= x <= found[-1]
        if found.size == 2:
            low = np.array([found[0]]).astype(dtype)
            assert np.nextafter(low, dtype.type(np.inf))[0] == found[1] or found[0] < 0
        missing = abs(float(x) - made.mean())
        subnormal = dtype == np.float16 and abs(x) < 2.0**-14
        assert missing <= (2.0**-40 if subnormal else 0.0)


@kinds
def test_random_bits_keep_what_is_not_finite(kind):
    x = np.array([np.inf, -np.inf, np.nan], np.float32)
    for bits in (0, 0xFFFF):
        made = half.narrowed(x, kind, np.full(3, bits, np.uint32)).view(DTYPES[kind]).astype(np.float32)
        np.testing.assert_array_equal(made, x)
