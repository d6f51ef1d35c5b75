"""Arrays that begin at a line of the cache."""

import numpy as np
import pytest

import nagd_numba
from nagd_numba.kernels.aligned import LINE, aligned


@pytest.mark.parametrize("shape", [0, 1, 17, (3, 5), (2, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_zeros_begin_at_a_line(shape, dtype):
    several = [aligned(shape, dtype) for _ in range(5)]
    for x in several:
        assert x.size == 0 or x.ctypes.data % LINE == 0  # of nothing the address means nothing
        assert (x.dtype, x.shape) == (np.dtype(dtype), np.zeros(shape).shape)
        assert x.flags.c_contiguous
        assert not x.any()


def test_new_parameters_begin_at_a_line():
    net = nagd_numba.MLP([3, 4, 2])
    assert all(net.init(seed).ctypes.data % LINE == 0 for seed in range(5))
