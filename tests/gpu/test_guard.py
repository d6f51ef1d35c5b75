"""`Guard` on device arrays: compiled kernels in the emulator, against the guard of the CPU, bit for bit."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nagd_numba import Guard, step
from nagd_numba.kernels.reductions import BLOCK
from tests.helpers import fake_driver
from tests.helpers.bits import same_bits
from tests.helpers.half import Half, round_to, widen

pytestmark = pytest.mark.usefixtures("compiler")

SIZES = (0, 1, 63, 64, 65, 700, BLOCK, BLOCK + 70, 2 * BLOCK + 1)
REPORT = ("norm", "nonfinite_count", "skipped", "skipped_steps")
ci = pytest.mark.ci


def assert_same_report(host, device, exact_dot=True):
    for name in (*REPORT, *(["dot"] if exact_dot else [])):
        a, b = getattr(host, name), getattr(device, name)
        assert a == b or (math.isnan(a) and math.isnan(b)), name


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "clip_norm": st.sampled_from([1e-3, 1.0, 50.0, 1e30]),
        "clip_value": st.sampled_from([1e-3, 0.5, 1e30]),
        "nonfinite": st.sampled_from(["propagate", "skip"]),
        "grad_scale": st.sampled_from([1.0, 3.0, 2.0**16, 1e-10]),
    },
)
DRAWN = {
    "sizes": st.lists(st.sampled_from(SIZES), min_size=1, max_size=4),
    "options": OPTIONS,
    "bad": st.sampled_from([0.0, 0.0, math.nan, math.inf, -math.inf]),
    "order": st.sampled_from(["forward", "reverse", "random"]),
    "multiprocessors": st.integers(1, 3),
    "seed": st.integers(0, 99),
}


def check_steps(dtype, sizes, options, bad, order, multiprocessors, seed, magnitude=1.0, exact_dot=True):
    """Two steps of one array or of a list: all arrays and all that the guard tells are those of the CPU."""
    rng = np.random.default_rng(seed)
    host = [[rng.normal(size=n).astype(dtype) for n in sizes] for _ in range(3)]
    host[1] = [x * dtype(magnitude) for x in host[1]]
    if bad != 0.0 and sizes[-1]:
        host[1][-1][rng.integers(sizes[-1], size=3)] = bad
    with (
        fake_driver.installed(order=order, multiprocessors=multiprocessors) as gpu,
        np.errstate(over="ignore", invalid="ignore"),
    ):
        size = np.dtype(dtype).itemsize
        device = [[gpu.array(x, offset=size * k) for k, x in enumerate(column)] for column in host]
        here, there = Guard(**options), Guard(**options)
        for k in range(2):
            lr = 0.1 / (k + 1)
            if len(sizes) == 1:
                step(*(x[0] for x in host), lr=lr, guard=here)
                step(*(x[0] for x in device), lr=lr, guard=there)
            else:
                step(*host, lr=lr, guard=here)
                step(*device, lr=lr, guard=there)
            assert_same_report(here, there, exact_dot)
            for column, other in zip(host, device, strict=True):
                for x, y in zip(column, other, strict=True):
                    np.testing.assert_array_equal(x, gpu.download(y))
                    finite = ~np.isnan(x)
                    assert (np.signbit(x) == np.signbit(gpu.download(y)))[finite].all()


@settings(max_examples=40)
@given(**DRAWN)
def test_a_guard_has_the_bits_of_the_cpu(**drawn):
    check_steps(np.float32, **drawn)


@ci
@settings(max_examples=40)
@given(**DRAWN)
def test_a_guard_has_the_bits_of_the_cpu_in_float64(**drawn):
    check_steps(np.float64, **drawn)


EXTREMES = [
    (np.float64, magnitude, scale)
    for magnitude in (1e154, 1e200, 1e307, 1e-160, 1e-300, 5e-324, 1.0)
    for scale in (1.0, 1e-320, 1e10, 1e308, 3e-5)
] + [(np.float32, magnitude, scale) for magnitude in (3e37, 1e-38, 1e-45, 0.0) for scale in (1.0, 1e-44, 1e308, 1e10)]


@ci
@pytest.mark.parametrize("options", [{}, {"nonfinite": "skip"}, {"clip_norm": 1.0}, {"clip_norm": 1e-30}])
@pytest.mark.parametrize(("dtype", "magnitude", "scale"), EXTREMES)
def test_gradients_and_scales_that_leave_the_range(dtype, magnitude, scale, options):
    """Sums formed again, factors that are no normal numbers, quotients that overflow: the host's bits."""
    drawn = {"sizes": [130, BLOCK + 3], "bad": 0.0, "order": "forward", "multiprocessors": 1, "seed": 0}
    options = {"grad_scale": scale, **options}
    check_steps(dtype, **drawn, options=options, magnitude=magnitude, exact_dot=False)


@ci
@pytest.mark.parametrize(("storage", "master"), [("float16", True), ("float16", False), ("bfloat16", True)])
def test_half_precision(gpu, storage, master):
    """The guard sees the gradients as they lie in memory; parameters and copy follow as without one."""
    rng = np.random.default_rng(0)
    p, g, v = (rng.normal(size=BLOCK + 5).astype(np.float32) for _ in range(3))
    p_bits, g_bits = round_to(p, storage), round_to(g, storage)
    exact = p.copy() if master else widen(p_bits, storage)
    copies = gpu.array(exact) if master else None
    params, grads, vel = Half(gpu, p_bits, storage, 0), Half(gpu, g_bits, storage, 2), gpu.array(v)
    here, there = (Guard(clip_norm=2.0, nonfinite="skip", grad_scale=0.5) for _ in range(2))
    step(exact, widen(g_bits, storage), v, lr=0.1, guard=here)
    step(params, grads, vel, lr=0.1, master=copies, guard=there)
    assert same_bits(gpu.download(params.inner), round_to(exact, storage))
    assert same_bits(gpu.download(vel), v)
    assert copies is None or same_bits(gpu.download(copies), exact)
    assert_same_report(here, there)


def test_the_host_reads_nothing_until_it_is_asked(gpu):
    """One upload for what the guard keeps, one for each table; no download in a step, whatever is decided."""
    device = [gpu.array(x) for x in np.ones((3, 100), np.float32)]
    guard = Guard(clip_norm=1.0, nonfinite="skip")
    gpu.download, downloads = None, gpu.download
    for _ in range(3):
        step(*device, guard=guard)
    device[1].pointer.array[3] = np.nan
    step(*device, guard=guard)
    gpu.download = downloads
    assert gpu.uploads == 1 + 4
    assert (guard.skipped, guard.skipped_steps, guard.nonfinite_count) == (True, 1, 1)
    assert len(gpu.launches) == 4 * 4
    other = copy.copy(guard)
    step(*(np.ones(3) for _ in range(3)), guard=guard)
    assert (guard.skipped, guard.skipped_steps) == (False, 1)
    assert (other.skipped, other.skipped_steps) == (True, 1)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=ci)])
def test_the_loss_scale_follows_the_gradients(gpu, dtype):
    """As the host's, whose rule is PyTorch's; the array of the caller has it, and nothing else is read."""
    host = [x.astype(dtype) for x in np.ones((3, 100))]
    device, scale = [gpu.array(x) for x in host], gpu.array(np.array([2.0**15], dtype))
    options = {"nonfinite": "skip", "growth_interval": 2, "growth_factor": 1.1, "backoff_factor": 0.3}
    here, there = Guard(grad_scale=2.0**15, **options), Guard(grad_scale=scale, **options)
    for bad in (False, True, False, False, False, True, True, False, False):
        host[1][:] = device[1].pointer.array[:] = here.grad_scale
        host[1][3] = device[1].pointer.array[3] = np.nan if bad else 1.0
        step(*host, lr=0.1, guard=here)
        step(*device, lr=0.1, guard=there)
        assert gpu.download(scale) == [here.grad_scale]
        assert_same_report(here, there)
        assert all(same_bits(x, gpu.download(y)) for x, y in zip(host, device, strict=True))
    assert here.grad_scale not in (2.0**15, 1.1 * 2.0**15)


def test_a_loss_scale_that_could_not_be_used_stays(gpu):
    device = [gpu.array(x) for x in np.ones((3, 100), np.float32)]
    scale, lr = (gpu.array(np.ones(1, np.float32)) for _ in range(2))
    guard = Guard(nonfinite="skip", grad_scale=scale, growth_interval=1)
    for unfit, value in ((scale, np.nan), (scale, 0.0), (scale, np.inf), (lr, -1.0)):
        unfit.pointer.array[0] = value
        before = gpu.download(scale)
        step(*device, lr=lr, guard=guard)
        assert guard.skipped
        assert same_bits(gpu.download(scale), before)
        unfit.pointer.array[0] = 2.0
    step(*device, lr=lr, guard=guard)
    assert gpu.download(scale) == [4.0]
    for start, bad, end in ((2.0**127, 0.0, 2.0**127), (2.0**-149, np.nan, 2.0**-149)):  # no further
        scale.pointer.array[0] = start
        device[1].pointer.array[0] = bad
        step(*device, lr=lr, guard=guard)
        assert gpu.download(scale) == [end]


def test_raise_waits_and_changes_nothing(gpu):
    host = np.ones((3, 100), np.float32)
    host[1, 5:7] = np.inf
    device = [gpu.array(x) for x in host]
    guard = Guard(nonfinite="raise")
    with pytest.raises(FloatingPointError, match="2 of the gradients are infinite or NaN; nothing was changed"):
        step(*device, guard=guard)
    assert guard.skipped
    assert all(same_bits(x, gpu.download(y)) for x, y in zip(host, device, strict=True))


@pytest.mark.parametrize("call", ["load", "allocate", "empty"])
def test_a_driver_that_fails_leaves_everything_as_it_was(gpu, call):
    host = np.ones((3, 100), np.float32)
    device = [gpu.array(x) for x in host]
    guard = Guard(clip_norm=1.0)
    gpu.fail = call
    with pytest.raises(RuntimeError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        step(*device, guard=guard)
    assert all(same_bits(x, gpu.download(y)) for x, y in zip(host, device, strict=True))
    here = Guard(clip_norm=1.0)
    step(*device, guard=guard)
    step(*host, guard=here)
    assert same_bits(host[0], gpu.download(device[0]))
    assert_same_report(here, guard)


def test_refused_before_any_launch(gpu):
    p, g, v = (gpu.array(x) for x in np.ones((3, 10), np.float32))
    follows, at_params = (Guard(nonfinite="skip", grad_scale=x, growth_interval=1) for x in (1.0, p[2:3]))
    for call, error, message in [
        (lambda: step(p, g, p, guard=Guard()), ValueError, "params and vel overlap"),
        (lambda: step(p, g, v, lr=-1.0, guard=Guard()), ValueError, "lr is -1.0"),
        (lambda: step(p, g, v, guard=Guard(clip_norm=1e-50)), ValueError, "clip_norm is 1e-50; a number >= 1.2e-38"),
        (lambda: step(p, g, v, guard=Guard(grad_scale=gpu.array(np.ones(1)))), TypeError, "grad_scale is a device"),
        (
            lambda: step(p, g, v, guard=follows),
            TypeError,
            "grad_scale is 1.0 and growth_interval 1; .* of float32 on the",
        ),
        (lambda: step(p, g, v, guard=at_params), ValueError, "params and grad_scale overlap"),
        (lambda: step(p, g, v, guard=3), TypeError, r"guard is an int; a nagd_numba\.Guard is needed"),
        (lambda: step(*np.ones((3, 5)), guard=Guard(grad_scale=v)), TypeError, "grad_scale is a device array and"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert not gpu.launches
    empty = [gpu.array(np.zeros(0, np.float32)) for _ in range(3)]
    guard = Guard(nonfinite="skip")
    step(*empty, guard=guard)
    assert (guard.norm, guard.nonfinite_count, guard.dot, guard.skipped) == (0.0, 0, 0.0, False)
    assert not gpu.launches
