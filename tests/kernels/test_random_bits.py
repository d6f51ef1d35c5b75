"""The hash of (seed, step, element): uniform, and without ties between elements, steps, seeds and halves of a word."""

import numpy as np
import pytest

from nagd_numba.kernels.random_bits import hashed, keys

N = 1 << 16


def uniform(step, seed=0, word=0, first=0):
    """Numbers in (-1/2, 1/2) from the lower and the upper half of each word."""
    bits = hashed(first + np.arange(N), *keys(seed, step), word)
    return [(x + 0.5) / 2**16 - 0.5 for x in ((bits & 0xFFFF).astype(np.float64), bits >> np.uint32(16))]


@pytest.mark.parametrize("step", [0, 1, 2, 1000])
def test_halves_are_uniform(step):
    """Chi-squared over 256 classes: mean 255, standard deviation 22.6."""
    for half in uniform(step):
        counts = np.histogram(half, 256, (-0.5, 0.5))[0]
        chi = ((counts - N / 256) ** 2).sum() / (N / 256)
        assert abs(chi - 255) < 5 * 22.6
        assert abs(half.mean()) < 5 * (1 / 12 / N) ** 0.5


def test_nothing_is_correlated():
    """Correlations of N pairs have the standard deviation 1/sqrt(N)."""
    low, high = uniform(5)
    columns = [low, high, *uniform(6), *uniform(7), *uniform(5, seed=1), *uniform(5, word=1), *uniform(5, first=N)]
    columns += [np.roll(low, k) for k in (1, 2, 3, 8, 16, 32, 256)]
    found = np.corrcoef(columns) - np.eye(len(columns))
    assert abs(found).max() < 5 / N**0.5


def test_every_bit_of_the_number_and_of_the_keys_changes_half_of_the_bits():
    x, (key, other) = np.arange(2000), keys(3, 4)
    before = hashed(x, key, other)
    for k in range(32):
        for after in (hashed(x ^ 1 << k, key, other), hashed(x, key ^ 1 << k, other), hashed(x, key, other ^ 1 << k)):
            changed = np.unpackbits((before ^ after).view(np.uint8)).mean()
            assert 0.35 < changed < 0.65


def test_a_step_is_a_permutation():
    assert np.unique(hashed(np.arange(N), *keys(0, 0))).size == N
    assert len({keys(seed, step) for seed in range(50) for step in range(50)}) == 2500
