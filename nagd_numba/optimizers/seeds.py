"""Arguments `rng`, which take what NumPy's generators are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..validation import whole


def seed_of(seed: Any, rng: Any) -> int:
    """`seed`, from 0 to below 2^64; where `rng` is given, one drawn from `numpy.random.default_rng(rng)`."""
    if rng is None:
        return whole("seed", seed, 0, 1 << 64)
    if seed is not None and not (isinstance(seed, int) and seed == 0):
        raise ValueError(f"seed is {seed!r}, and rng is given as well; leave one out")
    return int(generator(rng).integers(0, 1 << 64, dtype=np.uint64))


def generator(rng: Any) -> np.random.Generator:
    """`numpy.random.default_rng(rng)`, whose errors name the argument."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(f"rng is {rng!r}; what numpy.random.default_rng takes is needed ({error})") from error
