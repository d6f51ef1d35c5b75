"""Solves on a device: the bits of those on the CPU, in the emulator of compiled kernels."""

import numpy as np
import pytest
from numba import njit

from nagd_numba import minimize, minimize_many
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
        if host[name].dtype.kind == "f":  # the sign of zeros too
            assert np.array_equal(
                np.signbit(host[name]) & (host[name] == 0), np.signbit(device[name]) & (device[name] == 0)
            )


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
    assert len(gpu.launches) == 1  # all of it
    _, _, again = both(gpu)
    assert len(gpu.launches) > 20
    same(host, device)
    same(host, again)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"options": {"l1": [0.05, 0.4]}}, marks=pytest.mark.ci),
        pytest.param({"restart": "function", "options": {"l1": 0.1}}, marks=pytest.mark.slow),
    ],
)
def test_a_penalty_gives_the_bits_of_the_cpu(gpu, options):
    host, _, device = both(gpu, prox="l1", **options)
    same(host, device)


@njit
def value(x, centre):
    return (x[0] - centre) ** 2 + abs(x[1]) * x[1] * x[1]


def differences(gpu, **options):
    X0, centres = np.array([[0.5, -1.0], [3.0, 0.25], [-0.0, 0.0]], np.float32), np.arange(3.0)
    host = minimize_many(value, X0, (centres,), **options)
    there = minimize_many(value, gpu.array(X0), (gpu.array(centres),), **options)
    same(host, {name: gpu.download(there[name]) for name in FIELDS})


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [[(0.9, None), (None, 0.7)], [(-1.0, 1.0), (0.2, 0.2)], [(0.0, 5.0), (0.0, 5.0)]])
def test_differences_within_bounds(gpu, bounds):
    differences(gpu, prox="box", options={"bounds": bounds})


@njit
def into_ball(x, step):
    """Not a proximal map, but one that writes to what it is given."""
    square = 0.0
    for i in range(x.size):
        square += x[i] * x[i]
    if square > 1.0:
        for i in range(x.size):
            x[i] /= square
    return x


@pytest.mark.slow
def test_a_prox_of_the_users(gpu):
    differences(gpu, prox=into_ball, maxiter=20)


def one_there(gpu, **options):
    signals, weights = data(1)
    args = gpu.array(signals[0]), weights[0], gpu.array(TIMES)
    return minimize(fit, gpu.array(np.ones(2)), args, "inplace", **options)


def one_here(**options):
    signals, weights = data(1)
    return minimize(fit, np.ones(2), (signals[0], weights[0], TIMES), "inplace", **options)


@pytest.mark.ci
def test_one_problem(gpu):
    there, host = one_there(gpu), one_here()
    assert np.array_equal(gpu.download(there.x), host.x)
    assert np.array_equal(gpu.download(there.jac), host.jac)
    for name in ("fun", "nit", "status", "success", "message", "L", "restarts"):
        assert there[name] == host[name], name
    assert there.nfev == host.nfev - 1  # without the call that looks at it


@pytest.mark.ci
def test_callbacks_and_limits_come_between_launches(gpu):
    there, here = [], []
    result = one_there(gpu, callback=lambda x: there.append(x) or len(there) == 5)
    assert (result.status, result.nit) == (99, 5)
    one_here(callback=lambda x: here.append(x) or len(here) == 5)
    assert np.array_equal(there, here)
    result = one_there(gpu, options={"maxtime": 0.0})
    assert (result.status, result.nit) == (3, 0)


def refused(gpu, error, match, fun=fit, X0=None, args=None, shared=None, jac="inplace", **options):
    X0 = gpu.array(np.ones((3, 2))) if X0 is None else X0
    args = (gpu.array(np.ones((3, 6))), gpu.array(np.ones(3))) if args is None else args
    with pytest.raises(error, match=match):
        minimize_many(fun, X0, args, (gpu.array(TIMES),) if shared is None else shared, jac, **options)
    assert not gpu.launches


def test_what_does_not_fit_is_refused_before_anything_runs(gpu):
    @njit
    def makes(x, g, *args):
        return np.linalg.norm(np.zeros(2))

    @njit
    def silent(x, g, signal, weight, times):
        g[0] = 1.0

    refused(gpu, TypeError, "fun cannot be compiled for a CUDA device", fun=makes)
    refused(gpu, TypeError, "fun returns none; a real number", fun=silent)
    refused(gpu, TypeError, "fun does not fit: it is called as fun.x, g, .args. with 2 args", shared=())
    refused(gpu, TypeError, "jac is True; functions make no arrays on a CUDA device: give jac='inplace'", jac=True)
    refused(gpu, TypeError, "jac is 'into'", jac="into")
    refused(gpu, TypeError, "prox is a function and fun is compiled", prox=lambda x, step: x)
    refused(
        gpu, TypeError, "args.1. is a numpy.ndarray; an array on the device", args=(gpu.array(np.ones((3, 6))), TIMES)
    )
    refused(gpu, TypeError, "shared.0. is a list", shared=([1.0],))
    refused(gpu, ValueError, "args.0. has shape .2, 6. and there are 3 problems", args=(gpu.array(np.ones((2, 6))),))
    refused(gpu, TypeError, "X0 has dtype int64", X0=gpu.array(np.ones((3, 2), np.int64)))
    refused(gpu, ValueError, "X0 has shape .3,.", X0=gpu.array(np.ones(3)))
    refused(gpu, ValueError, "the arrays are on different devices", X0=gpu.array(np.ones((3, 2)), device=1))
    refused(
        gpu,
        TypeError,
        "X0 is on a CUDA device .*, where functions have to be compiled: make them @njit",
        fun=fit.py_func,
    )


def test_a_start_that_is_not_finite(gpu):
    X0 = np.ones((3, 2))
    X0[1, 1] = np.inf
    given = (gpu.array(np.ones((3, 6))), gpu.array(np.ones(3))), (gpu.array(TIMES),), "inplace"
    with pytest.raises(ValueError, match=r"X0\[1, 1\] is not finite"):
        minimize_many(fit, gpu.array(X0), *given)


def test_no_problems(gpu):
    given = (gpu.array(np.ones((0, 6))), gpu.array(np.ones(0))), (gpu.array(TIMES),), "inplace"
    there = minimize_many(fit, gpu.array(np.ones((0, 2))), *given)
    assert gpu.download(there.x).shape == (0, 2)
    assert there.message == "0 of 0 converged."
