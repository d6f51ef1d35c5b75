"""The suites of `python -m benchmarks.gpu` for asv: each figure is n/a, with the reason, where there is no device."""

from __future__ import annotations

EXPONENTS = tuple(range(10, 29, 2))
CASES = ("32x32", "32x128", "256x128", "256x1024")  # batch x hidden


def unusable() -> str | None:
    """Why nothing can be measured here."""
    try:
        from nagd_numba.gpu.driver import why_no_cuda
    except ImportError:
        return "this version of nagd_numba has its CUDA code elsewhere"
    return why_no_cuda()


def figures(jobs, case_of) -> dict:
    """The figures of rows by case and name, as `gpu_report.Row` has them; or why there are none."""
    from .gpu_report import Row, Unusable

    found = {}
    for case, measured in jobs:
        row = Row(case)
        try:
            measured(row)
        except Unusable as error:
            row.reasons["ours"] = str(error)
        found[case_of(case)] = row.figures, row.reasons
    return found


class _OnDevice:
    timeout = 120

    def setup(self, found, case, contender):
        if isinstance(found, str):
            raise NotImplementedError(found)
        values, reasons = found.get(case, ({}, {}))
        if contender not in values:
            raise NotImplementedError(reasons.get(contender, "not measured"))
        self.value = values[contender]["value"]


class Step(_OnDevice):
    """A float32 step on 2^exponent elements."""

    params = (EXPONENTS, ("ours", "copy", "torch fused", "torch foreach", "CuPy", "JAX"))
    param_names = ("exponent", "contender")

    def setup_cache(self):
        reason = unusable()
        if reason is not None:
            return reason
        from . import gpu_step

        jobs = [job for job in gpu_step.sizes(max(EXPONENTS)) if job[0]["dtype"] == "float32"]
        return figures(jobs, lambda case: int(case["n"].removeprefix("2^")))

    setup_cache.timeout = 1200

    def track_microseconds(self, found, exponent, contender):
        return self.value

    track_microseconds.unit = "us"


class Launch(_OnDevice):
    """What a call costs the host."""

    params = (("call",), ("ours", "ours, torch tensors", "ours, CuPy arrays", "torch fused", "CuPy", "JAX"))
    param_names = ("what", "contender")

    def setup_cache(self):
        reason = unusable()
        if reason is not None:
            return reason
        from . import gpu_step

        return figures(list(gpu_step.launches(0))[:1], lambda case: "call")

    setup_cache.timeout = 600

    def track_microseconds(self, found, what, contender):
        return self.value

    track_microseconds.unit = "us"


class Training(_OnDevice):
    """A step of training, 64-hidden-10 on the digits."""

    params = (CASES, ("ours", "torch graph", "torch graph, epoch", "torch eager", "JAX"))
    param_names = ("case", "contender")

    def setup_cache(self):
        reason = unusable()
        if reason is not None:
            return reason
        from . import gpu_mlp

        return figures(gpu_mlp.trainings(0), lambda case: f"{case['batch']}x{case['hidden']}")

    setup_cache.timeout = 1200

    def track_microseconds(self, found, case, contender):
        return self.value

    track_microseconds.unit = "us"
