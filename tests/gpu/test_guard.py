"""`Guard` on device arrays: compiled kernels in the emulator, against the guard of the CPU, bit for bit."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nagd_numba import Guard, adam_step, step
from nagd_numba.gpu import guard_kernels
from nagd_numba.kernels.reductions import BLOCK
from tests.helpers import driverless, fake_driver

SIZES = (0, 1, 63, 64, 65, 700, BLOCK, BLOCK + 70, 2 * BLOCK + 1)
REPORT = ("norm", "nonfinite_count", "skipped", "skipped_steps")
ci = pytest.mark.ci


@pytest.fixture(autouse=True)
def compiler():
    driverless.require()


@pytest.fixture
def gpu():
    with fake_driver.installed() as fake:
        yield fake


def same(x, y):
    return np.array_equal(np.asarray(x).view(np.uint8), np.asarray(y).view(np.uint8))


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
