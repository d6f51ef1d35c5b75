"""The step on the CPU: every way to call ours, and every peer, over sizes and dtypes."""

from __future__ import annotations

from . import common

SIZES = (10, 1_000, 100_000, 10_000_000, 50_000_000)
DTYPES = ("float32", "float64")
OURS = ("ours", "ours, inside @njit", "ours, kernel, one thread", "ours, kernel, all threads")
PEERS = ("NumPy", "numexpr", "torch", "torch foreach", "torch fused", "optax jit", "Warp graph", "Dr.Jit frozen")
if common.QUICK:
    SIZES, DTYPES = SIZES[:2], DTYPES[:1]


class Step:
    """`nagd_numba.step` (`ours`: from Python, checks included) and its peers, on the same arrays."""

    params = (SIZES, DTYPES, (*OURS, *PEERS, "moved bytes"))
    param_names = ("n", "dtype", "contender")
    timeout = 120

    def setup_cache(self) -> common.Results:
        steps = common.harness("steps")
        return {(n, dtype): common.Found(*steps.measure(n, dtype)) for dtype in DTYPES for n in SIZES}

    setup_cache.timeout = 1800

    def setup(self, found, n, dtype, contender):
        self.found = found[n, dtype]
        self.found.require(contender)

    def track_seconds(self, found, n, dtype, contender):
        return self.found.median(contender)

    track_seconds.unit = "seconds"

    def track_seconds_per_gigabyte(self, found, n, dtype, contender):
        """Bandwidth the other way round: of the bytes that a step must move."""
        size = 5 * {"float32": 4, "float64": 8}[dtype] * n
        return self.found.median(contender) / size * 1e9

    track_seconds_per_gigabyte.unit = "s/GB"

    def track_over_moved_bytes(self, found, n, dtype, contender):
        """Times as long as a kernel that only moves the same bytes; 1 is the limit of the memory."""
        return self.found.over(contender, "moved bytes")

    track_over_moved_bytes.unit = "x"

    def track_over_best_peer(self, found, n, dtype, contender):
        return self.found.over_best(contender, PEERS)

    track_over_best_peer.unit = "x"
