"""Solves on a device: the bits of those on the CPU, in the emulator of compiled kernels."""

import numpy as np
import pytest
from numba import njit

from nagd_numba import minimize_many
from nagd_numba.minimizer.gpu import launches
from tests.helpers import driverless, fake_driver
from tests.helpers.backends import JIT_OFF

FIELDS = ("x", "fun", "jac", "nit", "nfev", "njev", "status", "success", "L", "restarts")
TIMES = np.linspace(0.0, 3.0, 6)


@pytest.fixture(autouse=True)
def compiler():
    if JIT_OFF:
        pytest.skip("nothing is compiled with the JIT off")
    driverless.require()


@pytest.fixture
def gpu():
    with fake_driver.installed() as gpu:
        yield gpu


@njit
def fit(x, g, signal, weight, times):
    """Half the weighted squared misfit of `x_1 / (1 + x_2 t)`; a signal that begins below -9 is refused."""
    if signal[0] < -9.0:
        raise ValueError("no signal")
    total = 0.0
    g[0] = g[1] = 0.0
    for i in range(times.size):
        e = 1.0 / (1.0 + x[1] * times[i])
        r = x[0] * e - signal[i]
        total += 0.5 * weight * r * r
        g[0] += weight * r * e
        g[1] -= weight * r * x[0] * times[i] * e * e
    return total


def data(problems, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 1.5, size=(problems, 2))
    signals = truth[:, :1] / (1.0 + truth[:, 1:] * TIMES) + 0.01 * rng.normal(size=(problems, TIMES.size))
    return signals, rng.uniform(0.5, 2.0, size=problems)


def both(gpu, problems=8, start=1.0, signals=None, **options):
    """The results on the host and on the device, whose arrays are brought to the host."""
    made, weights = data(problems)
    signals = made if signals is None else signals
    X0 = np.full((problems, 2), start)
    host = minimize_many(fit, X0, (signals, weights), (TIMES,), "inplace", **options)
    on_device = (gpu.array(signals), gpu.array(weights)), (gpu.array(TIMES),)
    there = minimize_many(fit, gpu.array(X0), *on_device, "inplace", **options)
    assert all(hasattr(there[name], "__cuda_array_interface__") for name in FIELDS)
    return host, there, {name: gpu.download(there[name]) for name in FIELDS}


def same(host, device):
    for name in FIELDS:
        assert host[name].dtype == device[name].dtype, name
        assert np.array_equal(host[name], device[name], equal_nan=True), name


# One kernel for all of them: they are settings.
SETTINGS = [
    {},
    {"restart": "function"},
    {"restart": None, "maxiter": 9},
    {"options": {"monotone": True, "ftol": 1e-3}},
    {"method": "gd", "L": 20.0, "maxiter": 30},
    {"method": "momentum", "tol": 1e-3},
    {"strong_convexity": 0.01, "L": 30.0},
    {"method": "gd", "L": 1e-3},  # diverges
    {"options": {"L0": 1e-3, "momentum": 0.5}, "maxiter": 12},
]


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_each_setting_gives_the_bits_of_the_cpu(gpu, options):
    host, there, device = both(gpu, **options)
    same(host, device)
    assert there.message == host.message


def test_what_fails_is_told_from_what_does_not(gpu):
    signals, _ = data(5)
    signals[1], signals[3, 0] = np.nan, -10.0
    with pytest.warns(RuntimeWarning, match="minimize_many: 1 of 5 raised"):
        host, there, device = both(gpu, 5, signals=signals)
    assert device["status"].tolist()[1:4:2] == [5, 9]
    same(host, device)
    assert there.message.startswith("3 of 5 converged.")


def test_launches_and_rounds_of_problems_do_not_matter(gpu, monkeypatch):
    host, _, device = both(gpu)
    monkeypatch.setattr(launches, "CALL_SECONDS", 1e-9)  # an iteration in a launch
    monkeypatch.setattr(launches.Autotuner, "next", lambda self, left: ("steps", 1))
    monkeypatch.setattr(launches, "STATE_BYTES", 800)  # three problems at a time
    before = len(gpu.launches)
    _, _, again = both(gpu)
    assert len(gpu.launches) - before > 20
    same(host, device)
    same(host, again)
