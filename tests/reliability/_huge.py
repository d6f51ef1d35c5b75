"""Arrays of more than 2^31 bytes or elements, of pages that nobody has touched, or of a few pages mapped many times.

Each case needs some gigabytes of address space, and as much memory as it says.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from typing import Any

import numpy as np

import nagd_numba

_NORESERVE, _FIXED, _POPULATE = 0x4000, 0x10, 0x8000  # of Linux; Python names them from 3.13 on, or never
MANY = 2**31 + 1_000  # elements
AT = np.array([0, 5, 2**31 - 1, 2**31 + 7, MANY - 2, MANY - 1])  # all in other places of a block of 2^20


def untouched(shape: Any, dtype: Any) -> np.ndarray:
    """Zeros without memory of their own until they are written."""
    nbytes = int(np.prod(np.atleast_1d(shape))) * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
    return np.frombuffer(memory, dtype).reshape(shape)


def repeated(block: np.ndarray, times: int) -> np.ndarray:
    """A block of whole pages so many times, one after the other, in the memory of one: what is written is in all."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    assert block.nbytes % mmap.PAGESIZE == 0
    file = os.memfd_create("block")
    os.write(file, memoryview(block).cast("B"))
    whole, protection = untouched(times * block.nbytes, np.uint8), mmap.PROT_READ | mmap.PROT_WRITE
    for k in range(times):
        at = libc.mmap(
            whole.ctypes.data + k * block.nbytes,
            block.nbytes,
            protection,
            mmap.MAP_SHARED | _FIXED | _POPULATE,
            file,
            0,
        )
        assert at == whole.ctypes.data + k * block.nbytes, ctypes.get_errno()
    os.close(file)
    return whole.view(block.dtype).reshape(-1, *block.shape[1:])


def same(x: Any, y: Any) -> None:
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes(), (x, y)


def few_of_many(mask_of_places: bool) -> Callable[[], None]:
    """A mask of a few elements, at both ends of vectors that are long; memory: a mask of 2 GiB that is read."""

    def case() -> None:
        if mask_of_places:
            p, g, v = (untouched(MANY, np.float32) for _ in range(3))
        else:  # a masked look at a page that is not there takes the processor a thousand times as long
            p, g, v = (repeated(np.zeros(1 << 20, np.float32), (MANY >> 20) + 1)[:MANY] for _ in range(3))
        p[AT], g[AT] = np.arange(len(AT)) - 2.5, 1.5
        own = [x[AT] for x in (p, g, v)]
        mask = AT
        if not mask_of_places:
            mask = untouched(MANY, np.uint8)
            mask[AT] = 1
        for _ in range(2):
            nagd_numba.step(p, g, v, mask=mask)
            nagd_numba.step(*own)
        same(p[AT], own[0])
        same(v[AT], own[2])
        assert not p[[1, 2**31 - 2, 2**31 + 1]].any()

    return case


def far_apart() -> None:
    """Strides of gigabytes, forwards and back."""
    memory = untouched((4, MANY), np.float32)
    p, g, v = memory[:3, :: 2**29], memory[1:, 7 :: 2**29], memory[::-1, 11 :: 2**29][:3]
    p[...], g[...], v[...] = 1.0, 0.5, 0.25
    own = [x.copy() for x in (p, g, v)]
    nagd_numba.step(p, g, v)
    nagd_numba.step(*own)
    same(p, own[0])
    same(v, own[2])


def more_bytes() -> None:
    """Vectors of 2.1 GB, whole; memory: 4.3 GB."""
    n = 2**29 + 1_000
    p, v = untouched(n, np.float32), untouched(n, np.float32)
    g = repeated(np.linspace(-1, 1, 1 << 20, dtype=np.float32), (n >> 20) + 1)[:n]
    nagd_numba.step(p, g, v, lr=0.1)
    for part in (slice(0, 1000), slice(n // 2, n // 2 + 1000), slice(n - 1000, n)):
        own = [np.zeros(1000, np.float32), g[part].copy(), np.zeros(1000, np.float32)]
        nagd_numba.step(*own, lr=0.1)
        same(p[part], own[0])
        same(v[part], own[2])


def stored_in_few_bytes() -> None:
    """Parameters of 16 bits with a state of 8; memory: 6.6 GB."""
    p = untouched(MANY, np.float16)
    g = repeated(np.linspace(-1, 1, 1 << 20).astype(np.float16), (MANY >> 20) + 1)[:MANY]
    (one,) = nagd_numba.int8_states(nagd_numba.lion_step, np.zeros(1 << 16, np.float16))
    block = -(-one.codes.size // one.scales.size)
    m = nagd_numba.Int8State(untouched(MANY, one.codes.dtype), untouched(-(-MANY // block), np.float32))
    nagd_numba.lion_step(p, g, m, lr=0.1, rounding=nagd_numba.StochasticRounding(3))
    for first in (0, 2**31 - 4 * block, 2**31):
        last = min(MANY, first + 4 * block)
        (own,) = nagd_numba.int8_states(nagd_numba.lion_step, np.zeros(last - first, np.float16))
        part = np.zeros(last - first, np.float16)
        rounding = nagd_numba.StochasticRounding(3, first=first)
        nagd_numba.lion_step(part, g[first:last].copy(), own, lr=0.1, rounding=rounding)
        same(p[first:last], part)
        same(m.codes[first:last], own.codes)


def rows_of_a_table() -> None:
    """Rows at both ends of a table; memory: 1 GB that is read."""
    count = 2**27 + 3
    params, vel = untouched((count, 16), np.float32), untouched((count, 16), np.float32)
    last, rows = untouched(count, np.int64), np.array([0, 2**27 - 1, 2**27, count - 1])
    grads = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    nagd_numba.step_rows(params, rows, grads, vel, last, 1)
    own = [np.zeros((4, 16), np.float32), np.zeros((4, 16), np.float32)]
    nagd_numba.step(own[0], grads, own[1])
    same(params[rows], own[0])
    same(vel[rows], own[1])


def samples_of_a_network() -> None:
    """Predictions and the loss for 2^31 numbers; memory: 2.5 GB."""
    net = nagd_numba.MLP([16, 4, 3])
    params = net.init(0)
    block = np.random.default_rng(0).normal(size=(1 << 18, 16)).astype(np.float32)
    times = 2**31 // block.size + 1
    X = repeated(block, times)
    assert X.size > 2**31
    few = net.predict(params, block)
    many = net.predict(params, X)
    assert many.shape[0] == len(X)
    same(many.reshape(times, -1), np.broadcast_to(few, (times, len(few))))
    loss = net.loss(params, block, few)
    assert abs(net.loss(params, X, np.tile(few, times)) - loss) < 1e-6 * loss


CASES: dict[str, Callable[[], None]] = {
    "a mask of places beyond 2^31": few_of_many(True),
    "strides of gigabytes": far_apart,
    "vectors of 2^31 bytes": more_bytes,
    "16-bit parameters and 8-bit states of 2^31 elements": stored_in_few_bytes,
    "rows of a table of 2^31 elements": rows_of_a_table,
    "samples of 2^31 numbers": samples_of_a_network,
    "a mask of bytes over 2^31 elements": few_of_many(False),
}
