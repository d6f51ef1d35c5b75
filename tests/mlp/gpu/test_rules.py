"""Training on CUDA by rules with 0 to 3 states, in the emulator: the bits of gradients and steps on the CPU."""

import numpy as np
import pytest

from nagd_numba import MLP
from nagd_numba.kernels.jit import inlined
from nagd_numba.kernels.rounding import add, fma, mul
from nagd_numba.kernels.rule import Rule
from nagd_numba.mlp.gpu.backend import DeviceBackend
from nagd_numba.mlp.plan import Normalization, Plan
from nagd_numba.optimizers import _host
from tests.helpers import driverless, fake_driver

FITS, TOO_LARGE = 227 << 10, 0  # bytes of shared memory: for the persistent kernel, or too few for it
NET = MLP([4, 6, 3], l2=0.01)
BATCH = 5


@pytest.fixture(autouse=True)
def compiler():
    driverless.require()


@inlined
def _rate(hyper, T, options):
    return (T(hyper[0]),)


@inlined
def _descend(p, g, state, constants, options):
    return fma(-constants[0], g, p), ()


@inlined
def _remember(p, g, state, constants, options):
    last, before, mean = state
    T = type(p)
    mean = fma(T(0.5), g, mul(T(0.5), mean))
    return fma(-constants[0], add(mean, mul(T(0.25), add(last, before))), p), (g, last, mean)


STATELESS = Rule("stateless", _descend, _rate, (), {"lr": 0.1}, {})
THREE = Rule("three", _remember, _rate, ("last", "before", "mean"), {"lr": 0.1}, {})


def reference(rule, params, states, X, y, hyper):
    """The same epoch with `value_and_grad` and the rule's kernel for host arrays."""
    for step, row in enumerate(hyper):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        _, g = NET.value_and_grad(params, X[rows], y[rows])
        if states:
            _host.apply(rule, params, g, states, dict(zip(rule.hyper, row, strict=True)), ())
        else:
            params[:] = [fma(-np.float32(row[0]), a, p) for p, a in zip(params, g, strict=True)]


@pytest.mark.parametrize(
    ("rule", "limit", "clip"),
    [
        pytest.param(STATELESS, FITS, np.inf, marks=pytest.mark.slow),
        pytest.param(THREE, FITS, np.inf, marks=pytest.mark.slow),
        (THREE, TOO_LARGE, np.inf),
        pytest.param(THREE, TOO_LARGE, 1e9, marks=pytest.mark.slow),
        pytest.param(STATELESS, TOO_LARGE, np.inf, marks=pytest.mark.slow),
        pytest.param(STATELESS, TOO_LARGE, 1e9, marks=pytest.mark.slow),
    ],
    ids=lambda x: getattr(x, "name", str(x)),
)
def test_an_epoch_by_a_rule_with_any_number_of_states(rule, limit, clip):
    random = np.random.default_rng(0)
    X, y = random.normal(size=(18, 4)).astype(np.float32), random.integers(0, 3, 18)
    hyper = np.array([[0.1], [0.2], [0.05], [0.1]])
    start = random.normal(size=(1 + len(rule.states), NET.size)).astype(np.float32)
    plan = Plan(BATCH, Normalization.mean(NET.spec), rule, (), clip=clip)
    with fake_driver.installed(shared_limit=limit) as gpu:
        params, vel = gpu.array(start[0]), gpu.array(start[1:].reshape(-1))
        backend = DeviceBackend(NET.spec, params, vel, many=False, states=len(rule.states))
        trainer = backend.trainer(backend.split(X, y, None, None, 0), plan)
        trainer.epoch(np.arange(18), hyper, np.uint64(0), 0)
        found = np.concatenate([gpu.download(params), gpu.download(vel)]).reshape(start.shape)
    reference(rule, start[0], tuple(start[1:]), X, y, hyper)
    np.testing.assert_array_equal(found, start)


def test_many_networks_have_their_states_in_rows():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(10, 4)).astype(np.float32), random.integers(0, 3, 10)
    start = random.normal(size=(2, 4, NET.size)).astype(np.float32)
    hyper = np.array([[[0.1], [0.2]], [[0.3], [0.1]]])
    with fake_driver.installed(shared_limit=FITS) as gpu:
        params, vel = gpu.array(start[:, 0]), gpu.array(start[:, 1:].reshape(2, -1))
        backend = DeviceBackend(NET.spec, params, vel, many=True, states=3)
        trainer = backend.trainer(
            backend.split(X, y, None, None, 0), Plan(BATCH, Normalization.mean(NET.spec), THREE, ())
        )
        trainer.epoch(np.tile(np.arange(10), (2, 1)), hyper, np.zeros(2, np.uint64), 0)
        found = np.concatenate([gpu.download(params)[:, None], gpu.download(vel).reshape(2, 3, -1)], axis=1)
    for m in range(2):
        reference(THREE, start[m, 0], tuple(start[m, 1:]), X, y, hyper[m])
    np.testing.assert_array_equal(found, start)
