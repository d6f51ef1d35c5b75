"""How everything here is timed.

Contenders run in turn, in rounds, in one process, after a second of warm-up: a shared machine drifts by a factor of
two within a minute, an idle core starts slowly, and memory that was not touched lately has to be fetched anew.  What is
compared is the median over the rounds of the ratio within a round.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
from numba import njit, prange

WARM_UP = 1.0
ROUNDS = 15
ROUND_SECONDS = 0.03


def interleaved(
    contenders: Mapping[str, Callable[[], object]], rounds: int = ROUNDS, settle: float = 0.0
) -> dict[str, list[float]]:
    """Seconds per call of each contender, one value for each round.

    Where contenders leave threads that spin, `settle` seconds pass, and a call that does not count, before each.
    """
    counts = {}
    end = time.perf_counter() + WARM_UP
    while time.perf_counter() < end:
        for call in contenders.values():
            call()
    for name, call in contenders.items():
        start = time.perf_counter()
        call()
        counts[name] = max(1, min(20_000, int(ROUND_SECONDS / max(time.perf_counter() - start, 1e-7))))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            count = counts[name]
            if settle:
                time.sleep(settle)
                call()
            start = time.perf_counter()
            for _ in range(count):
                call()
            seconds[name].append((time.perf_counter() - start) / count)
    return seconds


def ratio(seconds: Mapping[str, list[float]], slower: str, faster: str) -> float:
    """The median over the rounds of `slower / faster`: above 1 where `faster` deserves its name."""
    return statistics.median(a / b for a, b in zip(seconds[slower], seconds[faster], strict=True))


def vectors(n: int, dtype: str, count: int = 3) -> list[np.ndarray]:
    """Touched memory with small numbers in it, which stay small under repeated steps."""
    return [np.full(n, 2.0**-20 / (k + 1), dtype) for k in range(count)]


def move(p, g, v):
    """Read and write the bytes of a step, with one sum so that all are read."""
    for i in prange(p.size):
        total = p[i] + g[i] + v[i]
        p[i] = total
        v[i] = total


move_serial = njit(nogil=True)(move)
move_parallel = njit(nogil=True, parallel=True)(move)


class NumPyStep:
    """The step as NumPy users write it: six in-place ufuncs and one buffer."""

    def __init__(self, p, g, v, lr=0.01, momentum=0.9):
        self.arrays = p, g, v
        self.buffer = np.empty_like(p)
        self.lr, self.momentum = p.dtype.type(lr), p.dtype.type(momentum)

    def __call__(self):
        p, g, v = self.arrays
        t = self.buffer
        np.multiply(v, self.momentum, out=v)
        np.add(v, g, out=v)
        np.multiply(v, self.momentum, out=t)
        np.add(t, g, out=t)
        np.multiply(t, self.lr, out=t)
        np.subtract(p, t, out=p)


def torch_step(p, g, **options):
    """A step of torch.optim.SGD(nesterov=True) on tensors of its own, or None without torch."""
    try:
        import torch
    except ImportError:
        return None
    parameter = torch.nn.Parameter(torch.from_numpy(p.copy()))
    parameter.grad = torch.from_numpy(g.copy())
    return torch.optim.SGD([parameter], 0.01, 0.9, nesterov=True, **options).step
