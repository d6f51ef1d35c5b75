"""The limits of the machine: a kernel that only moves the bytes of a step, and the products of its BLAS."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

STEP_BYTES = 5  # times the size of an element: params and vel read and written, grads read
STEP_FLOP = 6  # per element: three fused multiply-adds, one of them rounded twice


def vectors(n: int, dtype: str, count: int = 3) -> list[np.ndarray]:
    """Touched memory with small numbers in it, which stay small under repeated steps."""
    return [np.full(n, 2.0**-20 / (k + 1), dtype) for k in range(count)]


def move(p, g, v):
    """Read and write the bytes of a step, with one sum so that all are read."""
    for i in prange(p.size):
        total = p[i] + g[i] + v[i]
        p[i] = total
        v[i] = total


move_serial = njit(move)
move_parallel = njit(parallel=True)(move)


class Product:
    """A product of two square float32 matrices by NumPy's BLAS: what the processor can multiply and add."""

    SIDE = 1024
    FLOP = 2 * SIDE**3

    def __init__(self) -> None:
        self.a, self.b, self.out = (np.full((self.SIDE, self.SIDE), 2.0**-10, np.float32) for _ in range(3))

    def __call__(self) -> object:
        return np.matmul(self.a, self.b, out=self.out)
