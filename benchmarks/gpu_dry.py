"""`--dry-run`: everything once and small, to know in a moment whether it runs here; the times mean nothing."""

from . import gpu_minimize, gpu_mlp, gpu_step, gpu_timing


def shrink() -> None:
    """Let every section be small."""
    gpu_timing.WARM_UP, gpu_timing.ROUNDS, gpu_timing.ROUND_SECONDS, gpu_timing.MOST_STEPS = 0.0, 1, 0.0, 2
    gpu_step.EXPONENTS = range(10, 11)
    gpu_step.OTHER_DTYPES = (("bfloat16", True, 20),)
    gpu_step.LISTS = {"3 of 100": [100] * 3}
    gpu_step.LAUNCHES, gpu_step.CAPTURED = 3, 2
    gpu_mlp.CASES, gpu_mlp.TF32_CASES = ((32, 32),), ()
    gpu_mlp.EPOCHS, gpu_mlp.MOST, gpu_mlp.ROUNDS = 2, 64, 1
    gpu_mlp.NETWORKS, gpu_mlp.RATES, gpu_mlp.SWEEP_HIDDEN = 4, 2, 32
    gpu_minimize.COUNTS, gpu_minimize.ROUNDS = (3,), 1
