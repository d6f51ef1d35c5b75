"""Steps of small storage on arrays, and what they should make of them by NumPy."""

import numpy as np
import pytest

from nagd_numba import Int8State, StochasticRounding
from nagd_numba.kernels import codes, half
from nagd_numba.kernels.random_bits import hashed, keys

ml_dtypes = pytest.importorskip("ml_dtypes")

BFLOAT16, FLOAT16 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
REQUIRED = {"t": 3, "weight_decay": 0.01}


def settings(optimizer):
    return {"lr": 0.05} | {x: REQUIRED[x] for x in optimizer.settings if x in REQUIRED}


def bits_of(x):
    return x.view({2: np.uint16, 4: np.uint32, 1: np.uint8}[x.dtype.itemsize])


class Step:
    """The arrays of one step in some form, and what it should make of them by NumPy."""

    def __init__(self, optimizer, dtype, form, n, seed=0):
        rng = np.random.default_rng(seed)
        p, g = (rng.normal(size=n).astype(np.float32) for _ in range(2))
        self.optimizer, self.form = optimizer, form
        coded, exact = "int8" in form, form == "float32 int8"
        self.params, self.grads = (x if exact else x.astype(dtype) for x in (p, g))
        signs = [name in optimizer.rule.nonnegative for name in optimizer.rule.states]
        kinds = [np.uint8 if sign else np.int8 for sign in signs]
        self.states = [
            Int8State(np.zeros(n, kind), np.zeros(-(-n // 32), np.float32)) if coded else np.zeros(n, np.float32)
            for kind in kinds
        ]
        self.beside = {}
        if form == "master":
            self.beside["master"] = p.copy()
        elif form == "compensation":
            self.beside["compensation"] = np.zeros(n, dtype)
        self.rounding = StochasticRounding(7) if form == "random" or coded else None

    def take(self, step=None):
        given = {} if self.rounding is None else {"rounding": self.rounding}
        step = self.optimizer.step if step is None else step
        return step(self.params, self.grads, *self.states, **self.beside, **given, **settings(self.optimizer))

    def arrays(self):
        parts = [y for x in self.states for y in ((x.codes, x.scales) if isinstance(x, Int8State) else (x,))]
        return [self.params, *parts, *self.beside.values()]

    def expect(self):
        """The same step by the float32 step, and what is stored of it by NumPy."""
        n, dtype, form = self.params.size, self.params.dtype, self.form
        before = self.params.astype(np.float32)
        if form == "master":
            before = self.beside["master"]
        elif form == "compensation":
            before = before + self.beside["compensation"].astype(np.float32)
        states = [x.values() if isinstance(x, Int8State) else x for x in self.states]
        after = before.copy()
        self.optimizer.step(after, self.grads.astype(np.float32), *states, **settings(self.optimizer))
        words = {}
        if self.rounding is not None:
            key = keys(self.rounding.seed, self.rounding.steps)
            words = {k: hashed(np.arange(n), *key, word=k) for k in range(2)}
            self.rounding.steps += 1
        if form in ("random", "int8"):
            kind = half.BITS_OF[dtype.name]
            self.params[...] = half.narrowed(after, kind, words[0]).view(dtype)
        else:
            self.params[...] = after.astype(dtype)
        if form == "master":
            self.beside["master"][...] = after
        elif form == "compensation":
            self.beside["compensation"][...] = (after - self.params.astype(np.float32)).astype(dtype)
        for k, (x, state) in enumerate(zip(self.states, states, strict=True)):
            if not isinstance(x, Int8State):
                continue
            random = words[(k + 1) // 2] << np.uint32(0 if (k + 1) % 2 else 16)
            for block in range(x.scales.size):
                at = slice(32 * block, min(n, 32 * block + 32))
                x.codes[at], x.scales[block] = codes.encoded(state[at], x.codes.dtype, random[at])
