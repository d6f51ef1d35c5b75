"""Every rule of the registry, through its CPU kernels."""

from __future__ import annotations

from functools import partial

from nagd_numba.kernels.segments import Table, step_of
from nagd_numba.optimizers.registry import RULES

from . import common

SIZES = (1_000, 100_000, 10_000_000)
DTYPES = ("float32", "float64")
if common.QUICK:
    SIZES, DTYPES = SIZES[:1], DTYPES[:1]


def kernel(name, dtype, n):
    """The default kernel of a rule, on arrays of its own."""
    rule = RULES[name]
    p, g, *states = common.harness("memory").vectors(n, dtype, 2 + len(rule.states))
    return partial(step_of(rule, rule.defaults(), p.dtype), Table.of([(p, g, *states)]), tuple(rule.hyper.values()))


class Rules:
    params = (list(RULES), DTYPES, SIZES)
    param_names = ("rule", "dtype", "n")
    timeout = 120

    def setup_cache(self) -> common.Results:
        timing = common.harness("timing")
        return {
            (dtype, n): common.Found(timing.interleaved({name: kernel(name, dtype, n) for name in RULES}), {})
            for dtype in DTYPES
            for n in SIZES
        }

    setup_cache.timeout = 600

    def track_seconds(self, found, name, dtype, n):
        return found[dtype, n].median(name)

    track_seconds.unit = "seconds"
