"""The bounds that `kernels.codes` states, over all random bits; kernels have the bits of its NumPy forms."""

import numpy as np
import pytest

from nagd_numba.kernels import codes


def block(rng, nonnegative):
    x = rng.normal(size=32) * 10.0 ** rng.uniform(-4, 0, 32) * 10.0 ** rng.integers(-9, 9)
    return (x**2 if nonnegative else x).astype(np.float32)


def mean_over_every_bit(values, k, dtype):
    """The mean of element `k` over all random numbers: between the two codes there is one threshold, by bisection."""

    def value(r):
        random = np.full(32, np.uint32(r << 16))
        code, scale = codes.encoded(values, dtype, random)
        return float(codes.decoded(code, np.array([scale]))[k]), float(scale)

    order = [*range(2**15, 2**16), *range(2**15)] if dtype == np.int8 else range(2**16)  # of signed numbers
    low, high = 0, 2**16 - 1
    first, scale = value(order[low])
    last, _ = value(order[high])
    if first == last:
        return first, {first}, scale
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if value(order[middle])[0] == first else (low, middle)
    return (first * high + last * (2**16 - high)) / 2**16, {first, last}, scale


@pytest.mark.parametrize("nonnegative", [False, True], ids=["int8", "uint8"])
def test_error_and_mean(nonnegative):
    rng = np.random.default_rng(0)
    dtype = np.dtype(np.uint8 if nonnegative else np.int8)
    for _ in range(4):
        values = block(rng, nonnegative)
        largest = float(np.abs(values).max())
        for k in range(0, 32, 5):
            x = float(values[k])
            mean, found, scale = mean_over_every_bit(values, k, dtype)
            if not nonnegative:
                assert max(abs(y - x) for y in found) < scale * (1 + 2.0**-15)
                assert abs(mean - x) < 2.0**-16 * scale
                continue
            assert max(abs(y**0.5 - x**0.5) for y in found) < scale * (1 + 2.0**-10)
            assert min(found) ** 0.5 > x**0.5 / 2
            if x >= scale**2:
                assert abs(mean - x) < 2.0**-14 * scale * largest**0.5
            else:
                assert list(found) == [pytest.approx(scale**2, rel=1e-6)]


def test_extremes():
    random = np.random.default_rng(0).integers(0, 2**32, 32, np.uint32)
    for dtype in (np.dtype(np.int8), np.dtype(np.uint8)):
        for fill in (0.0, 1e-31, 3e38, 1.0):
            values = np.full(32, fill, np.float32)
            code, scale = codes.encoded(values, dtype, random)
            again = codes.decoded(code, np.array([scale]))
            np.testing.assert_allclose(again, 0.0 if fill == 1e-31 else values, rtol=0.01)
        values = np.zeros(32, np.float32)
        values[3], values[5] = 1.0, np.inf if dtype == np.uint8 else -np.inf
        code, scale = codes.encoded(values, dtype, random)
        assert not np.isfinite(codes.decoded(code, np.array([scale]))[[3, 5]]).any()
    values = np.zeros(32, np.float32)
    values[:2] = 1.0, 1e-12
    code, _ = codes.encoded(values, np.dtype(np.uint8), random)
    assert list(code[:3]) == [255, 1, 0]
