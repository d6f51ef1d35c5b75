"""asv suite of the steps: times, and ratios that do not depend on the machine.

Kernels are compiled here, at import: asv would otherwise time the compilation.
"""

import numpy as np

import nagd_numba
from nagd_numba.apply import host_kernel, use_parallel, vectors
from nagd_numba.rules import RULES

from . import common

SIZES = (1_000, 100_000, 10_000_000)
DTYPES = ("float32", "float64")

KERNELS = {
    (name, dtype, parallel): host_kernel(rule, rule.defaults(), vectors(rule, dtype), parallel=parallel)
    for name, rule in RULES.items()
    for dtype in DTYPES
    for parallel in (False, True)
}


class Rules:
    """Every rule of the registry, through its kernels."""

    params = (list(RULES), list(DTYPES), list(SIZES))
    param_names = ("rule", "dtype", "n")
    unit = "s"

    def setup(self, name, dtype, n):
        rule = RULES[name]
        p, g, *states = common.vectors(n, dtype, 2 + len(rule.states))
        hyper = tuple(rule.hyper.values())
        kernel = KERNELS[name, dtype, use_parallel(n)]
        self.call = lambda: kernel(p, g, tuple(states), hyper)

    def track_seconds(self, name, dtype, n):
        return float(np.median(common.interleaved({"step": self.call})["step"]))


class Step:
    """`nagd_numba.step` from Python, as a ratio to NumPy, torch and a kernel that only moves the bytes."""

    params = (["NumPy", "moved bytes", "torch fused"], list(SIZES))
    param_names = ("against", "n")
    unit = "times faster"
    timeout = 300

    def setup(self, against, n):
        p, g, v = common.vectors(n, "float32")
        q, h, w = common.vectors(n, "float32")
        if against == "NumPy":
            other = common.NumPyStep(q, h, w)
        elif against == "torch fused":
            other = common.torch_step(q, h, fused=True)
            if other is None:
                raise NotImplementedError("torch is not installed")
        else:
            mover = common.move_parallel if use_parallel(n) else common.move_serial
            other = lambda: mover(q, h, w)  # noqa: E731
        self.calls = {"ours": lambda: nagd_numba.step(p, g, v), "other": other}

    def track_ratio(self, against, n):
        return common.ratio(common.interleaved(self.calls), "other", "ours")
