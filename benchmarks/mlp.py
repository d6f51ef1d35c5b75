"""The network on the CPU: training, gradients and prediction beside the peers."""

from __future__ import annotations

from . import common

CASES = ("32x32", "32x128", "256x128", "256x1024")  # batch x hidden
TRAINERS = ("ours", "JAX", "torch", "scikit-learn")
PREDICTORS = ("ours", "NumPy", "torch", "scikit-learn")
ROWS = (1, 32, 10_000)
if common.QUICK:
    CASES, ROWS = CASES[:1], ROWS[:1]


class _Beside:
    """The figures of all suites here."""

    timeout = 120

    def setup(self, found, case, contender):
        self.found = found[case]
        self.found.require(contender)

    def track_over_best_peer(self, found, case, contender):
        """Times as long as the fastest peer."""
        return self.found.over_best(contender, tuple(name for name in self.params[1] if name != "ours"))

    track_over_best_peer.unit = "x"


class Training(_Beside):
    """64-hidden-10 on the digits with NAG, to the same loss; of each peer the fastest of its forms."""

    params = (CASES, TRAINERS)
    param_names = ("case", "contender")

    def setup_cache(self) -> common.Results:
        training = common.harness("training")
        return {case: common.Found(*training.measure(*map(int, case.split("x")))[:2]) for case in CASES}

    setup_cache.timeout = 1800

    def track_step_seconds(self, found, case, contender):
        return self.found.median(contender)

    track_step_seconds.unit = "seconds"

    def track_epoch_seconds(self, found, case, contender):
        batch = int(case.split("x")[0])
        return self.found.median(contender) * (1797 // batch)

    track_epoch_seconds.unit = "seconds"


class Gradients(_Beside):
    """Loss and gradient of one batch, 64-hidden-10."""

    params = (CASES, ("ours", "JAX", "torch"))
    param_names = ("case", "contender")

    def setup_cache(self) -> common.Results:
        digits, inference, timing = map(common.harness, ("digits", "inference", "timing"))
        results = {}
        for name in CASES:
            case = digits.Case(*map(int, name.split("x")))
            contenders, missing = digits.those_there(inference.GRADIENTS, case)
            results[name] = common.Found(timing.interleaved(contenders), missing)
        return results

    setup_cache.timeout = 600

    def track_seconds(self, found, case, contender):
        return self.found.median(contender)

    track_seconds.unit = "seconds"


class Prediction(_Beside):
    """The classes of some samples through 64-128-10; one sample is the latency."""

    params = (ROWS, PREDICTORS)
    param_names = ("rows", "contender")

    def setup_cache(self) -> common.Results:
        digits, inference, timing = map(common.harness, ("digits", "inference", "timing"))
        results = {}
        for rows in ROWS:
            contenders, missing = digits.those_there(inference.PREDICTORS, digits.Case(32, 128), rows)
            results[rows] = common.Found(timing.interleaved(contenders, settle=timing.SETTLE), missing)
        return results

    setup_cache.timeout = 600

    def track_seconds(self, found, rows, contender):
        return self.found.median(contender)

    track_seconds.unit = "seconds"


class Networks:
    """`fit_many` on 16 networks over `fit` one after another: below 1 it is faster, at 1/cores it is perfect."""

    params = (CASES[:2],)
    param_names = ("case",)
    timeout = 120

    def setup_cache(self) -> common.Results:
        digits, training, timing = map(common.harness, ("digits", "training", "timing"))
        results = {}
        for name in CASES[:2]:
            together, alone = training.many_ours(digits.Case(*map(int, name.split("x"))), 2 if common.QUICK else 16)
            seconds = timing.interleaved({"ours": together, "one by one": alone}, timing.FEW_ROUNDS, timing.SETTLE)
            results[name] = common.Found(seconds, {})
        return results

    setup_cache.timeout = 600

    def track_over_one_by_one(self, found, case):
        return found[case].over("ours", "one by one")

    track_over_one_by_one.unit = "x"
