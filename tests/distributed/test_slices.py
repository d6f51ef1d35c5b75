"""Slices and buckets: every element belongs to one rank, and to one bucket of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba.distributed.slices import Slices
from nagd_numba.kernels.reductions import BLOCK


@given(n=st.integers(0, 400_000), size=st.integers(1, 40), buckets=st.integers(1, 20))
def test_every_element_has_one_owner(n, size, buckets):
    slices = Slices(n, size, buckets)
    assert slices.count <= buckets
    at = 0
    for rank in range(size):
        start, stop = slices.of(rank)
        assert start == at
        assert stop - start <= slices.length < n / size + BLOCK
        assert start == n or start % BLOCK == 0
        at = stop
        inside = start
        for bucket in range(slices.count):
            first, last = slices.part(rank, bucket)
            assert first == inside
            assert last - first <= slices.width
            inside = last
        assert inside == stop
    assert at == n


def test_a_rank_keeps_its_share_of_the_states():
    """At most a block more than 1/N."""
    for size in (2, 3, 8, 64):
        assert Slices(10**7, size).length <= 10**7 / size + BLOCK


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_of_rows_are_rounded_one_after_another(dtype, count):
    from nagd_numba.kernels.rows import sum_kernel

    rng = np.random.default_rng(count)
    rows = rng.normal(size=(count, 5003)).astype(dtype)
    for own in range(count):
        holes = rows.copy()
        holes[own] = np.nan
        for divisor in (1.0, 3.0):
            out = np.empty(5003, dtype)
            sum_kernel(out.dtype)(holes, rows[own], own, out, divisor)
            expected = rows[0]
            for row in rows[1:]:
                expected = expected + row
            np.testing.assert_array_equal(out, expected / dtype(divisor))
            exact = rows.astype(np.longdouble).sum(axis=0) / divisor
            bound = count * np.finfo(dtype).eps * abs(rows).astype(np.longdouble).sum(axis=0) / divisor
            assert (abs(out - exact) <= bound).all()
