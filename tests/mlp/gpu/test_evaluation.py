"""Loss and metrics on a device, in the emulator: the sums of the CPU; parameters are checked; what the host adds."""

from functools import reduce
from operator import add

import numpy as np
import pytest

from nagd_numba import MLP
from nagd_numba.gpu import device_array
from nagd_numba.mlp.backends import HostBackend
from nagd_numba.mlp.dropout import layer_key, layer_keys, splitmix, splitmix_each
from nagd_numba.mlp.gpu import evaluation, host_sums
from nagd_numba.mlp.gpu.backend import DeviceBackend
from nagd_numba.mlp.gpu.finite import FiniteCheck
from nagd_numba.mlp.gpu.passes import Space
from nagd_numba.mlp.plan import Normalization, Plan
from tests.helpers import driverless, fake_driver


@pytest.fixture(autouse=True)
def compiler():
    driverless.require()


def evaluated(net, params, plan, validation, seed=0):
    """The sums on the CPU and on a device."""
    X, y = validation[:2]
    many = params.ndim == 2
    host = HostBackend(net.spec, params.copy(), None, many)
    here = host.evaluation(host.split(X[:9], y[:9], None, validation, seed), plan)()
    with fake_driver.installed(order="random") as gpu:
        device = DeviceBackend(net.spec, gpu.array(params), None, many)
        given = (gpu.array(validation[0]), *validation[1:])
        there = device.evaluation(device.split(X[:9], y[:9], None, given, seed), plan)
        first = there()
        assert first.tobytes() == there().tobytes(), "it can be asked again"
    return here, first


@pytest.mark.parametrize(
    ("loss", "dtype", "inputs", "weighted", "networks"),
    [
        ("cross_entropy", "float32", "uint8", True, 3),
        pytest.param("mse", "float64", "float32", False, 0, marks=pytest.mark.slow),
        pytest.param("binary_cross_entropy", "float32", "float64", True, 0, marks=pytest.mark.ci),
    ],
)
def test_the_sums_are_those_of_the_cpu(loss, dtype, inputs, weighted, networks, monkeypatch):
    """Of more rows than are evaluated at once, which are more than one part of the sums."""
    net, rows = MLP([4, 7, 3], loss=loss, dtype=dtype, dropout=0.5, l2=0.1), 300
    random = np.random.default_rng(1)
    X = random.integers(0, 256, (rows, 4)) if inputs == "uint8" else random.normal(size=(rows, 4))
    y = random.integers(0, 3, rows) if loss == "cross_entropy" else random.integers(0, 2, (rows, 3)).astype(dtype)
    weights = (random.uniform(0, 2, rows).astype(dtype),) if weighted else ()
    params = random.normal(size=(max(networks, 1), net.size)).astype(dtype)
    monkeypatch.setattr(
        evaluation, "MEMORY", 2 * Space(net.spec, evaluation.PART, multiprocessors=1).size * net.dtype.itemsize
    )
    plan = Plan(8, Normalization.mean(net.spec), measure=True)
    here, there = evaluated(net, params if networks else params[0], plan, (X.astype(inputs), y, *weights))
    assert here.shape == there.shape
    assert here.tobytes() == there.tobytes()


@pytest.mark.parametrize("bad", [None, np.nan, np.inf, -np.inf])
def test_finite_parameters(bad):
    x = np.random.default_rng(0).normal(size=9000).astype(np.float32)
    x[5] = np.finfo(np.float32).max
    if bad is not None:
        x[8999] = bad
    with fake_driver.installed() as gpu:
        check = FiniteCheck(device_array.describe("x", gpu.array(x), write=False), 0, 0)
        assert check() == (bad is None)


def test_sums_of_many_networks_are_those_of_each():
    """Against a loop over the rows, one after the other."""
    random = np.random.default_rng(0)
    networks, n, batch = 3, 23, 4
    steps = -(-n // batch)
    losses, measures = random.normal(size=(networks, n)), random.normal(size=(networks, n, 3))
    squares, decays = random.uniform(size=(networks, steps)), random.uniform(size=(networks, steps))
    weights = random.uniform(size=(networks, n)).astype(np.float32)
    decays[1, 2] = 0.0
    found = host_sums.host_sums(
        host_sums.Records(losses, measures, squares), n, batch, 0.5, decays, coupled=False, weights=weights
    )
    for m in range(networks):
        expected = np.zeros(6)
        for s in range(steps):
            loss = mass = 0.0
            for i in range(s * batch, min(n, (s + 1) * batch)):
                w = float(weights[m, i])
                loss, mass = loss + w * losses[m, i], mass + w
                for slot, column in ((3, 0), (4, 1), (5, 2)):
                    expected[slot] += w * measures[m, i, column]
            expected[0] += 0.5 * loss
            expected[1] += mass
            if decays[m, s] != 0:
                expected[2] += mass * (0.5 * decays[m, s] * squares[m, s])
        assert found[m].tobytes() == expected.tobytes()


@pytest.mark.parametrize("each", [1, 3, 50])
def test_chains_do_not_depend_on_which_loop_is_shorter(each):
    x = np.random.default_rng(0).normal(size=(2, 50)) * 10.0 ** np.arange(50)
    x[0, 0] = -0.0
    expected = [[reduce(add, row[k : k + each].tolist(), 0.0) for k in range(0, 50, each)] for row in x]
    assert host_sums.chains(x, each).tobytes() == np.array(expected).tobytes()


def test_keys_of_many_steps():
    keys = np.array([0, 7, (1 << 64) - 1], np.uint64)
    assert splitmix_each(keys, np.arange(3)).tolist() == [int(splitmix(key, k)) for k, key in enumerate(keys)]
    assert layer_keys(keys, 2).tolist() == [int(layer_key.py_func(key, 2)) for key in keys]
