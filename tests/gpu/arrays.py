"""Arrays for a step, and those of a fake device compared with the host's."""

import numpy as np

from tests.helpers.bits import same_bits


def arrays(n, states=1, dtype=np.float32, seed=0):
    """Parameters, gradients and states; the states are not negative."""
    rng = np.random.default_rng(seed)
    p, g, *s = (rng.normal(size=n).astype(dtype) for _ in range(2 + states))
    return [p, g, *map(np.abs, s)]


def same(gpu, host, device):
    """Are they the same to the last bit?"""
    for x, y in zip(host, device, strict=True):
        assert same_bits(x, gpu.download(y))
