"""`average=` of `MLP.fit` and `fit_many` on device arrays, in the emulator: the bits of the CPU, on both paths.

The networks have one or two layers: the time of these tests is that of the kernels' compilation.
"""

import numpy as np
import pytest

from nagd_numba import MLP, Average, fit_many
from nagd_numba.mlp.gpu import persistent, trainer
from nagd_numba.mlp.rates import rule_of
from tests.helpers import driverless, fake_driver
from tests.helpers.device_training import assert_equal_histories, problem

ONE, TWO = MLP([4, 3]), MLP([4, 7, 3], l2=0.01)
BATCH, ROWS, STREAM = 8, 20, 71
ci, slow = pytest.mark.ci, pytest.mark.slow


@pytest.fixture(autouse=True)
def compiler():
    driverless.require()


def limit_of(path, net, optimizer="nag"):
    """Bytes of shared memory that just suffice for the persistent kernel and its states, or that just do not."""
    states = len(rule_of(optimizer)[0].states) + 1
    needed = persistent.SharedMemory.of(net.sizes, BATCH, states).total * net.dtype.itemsize
    return needed if path == "persistent" else needed - 1


class Both:
    """The same parameters, states and average on the host and on a device."""

    def __init__(self, gpu, net=ONE, optimizer="nag", networks=0, decay=0.9, start=0, **interface):
        self.gpu, states = gpu, len(rule_of(optimizer)[0].states)
        self.params = np.stack([net.init(seed) for seed in range(networks)]) if networks else net.init(0)
        self.vel = np.zeros((*self.params.shape[:-1], states * net.size), net.dtype)
        self.there = tuple(gpu.array(x, **interface) for x in (self.params, self.vel))
        self.average, self.average_there = (Average(x, decay, start) for x in (self.params, self.there[0]))

    def train(self, train, X, y, **keywords):
        """By the same call here and there; returns what it returns."""
        made = []
        for params, vel, average in (
            (self.params, self.vel, self.average),
            (*self.there, self.average_there),
        ):
            keywords = {"epochs": 2, "batch_size": BATCH, "lr": 0.05, **keywords}
            made.append(train(params, X, y, vel=vel, average=average, **keywords))
        return made

    def assert_equal(self):
        expected = {"params": self.params, "vel": self.vel, "average": self.average.value}
        for (name, x), there in zip(expected.items(), (*self.there, self.average_there.value), strict=True):
            np.testing.assert_array_equal(self.gpu.download(there), x, err_msg=name)
        assert self.average_there.steps == self.average.steps


@pytest.mark.parametrize(
    ("path", "net", "optimizer", "networks", "keywords"),
    [
        ("multi_launch", ONE, "nag", 0, {}),
        ("multi_launch", ONE, "nag", 2, {}),
        ("multi_launch", ONE, "nag", 0, {"validation": 0.3, "keep": "best", "epochs": 4, "lr": 3.0}),
        pytest.param("persistent", TWO, "nag", 0, {}, marks=slow),
        pytest.param("persistent", TWO, "nag", 2, {}, marks=ci),
        pytest.param("persistent", TWO, "adam", 0, {"validation": 0.3, "keep": "best"}, marks=slow),
        pytest.param("persistent", TWO, "adam", 2, {"seed": [3, 4]}, marks=ci),
        pytest.param("multi_launch", TWO, "adam", 0, {"metrics": ["accuracy"], "validation": 0.3}, marks=ci),
        pytest.param("multi_launch", TWO, "adam", 2, {"lr": [0.1, 0.01]}, marks=slow),
        pytest.param("multi_launch", TWO, "nag", 0, {"accumulate": 2, "clip": 0.5}, marks=ci),
        pytest.param("multi_launch", TWO, "gd", 2, {}, marks=ci),
    ],
)
def test_training_has_the_bits_of_the_host(path, net, optimizer, networks, keywords):
    X, y = problem(net.sizes, ROWS)
    with fake_driver.installed(shared_limit=limit_of(path, net, optimizer)) as gpu:
        decay, start = (None, 2) if networks else (0.9, 0)
        both = Both(gpu, net, optimizer, networks, decay, start)
        train = (lambda *given, **more: fit_many(net, *given, **more)) if networks else net.fit
        here, there = both.train(train, X, y, optimizer=optimizer, **keywords)
        both.assert_equal()
        for own, expected in zip(*((x if networks else [x]) for x in (there, here)), strict=True):
            assert_equal_histories(own, expected)
        assert any("persistent" in launch[0] for launch in gpu.launches) == (path == "persistent")


@pytest.mark.parametrize("path", [pytest.param("persistent", marks=ci), "multi_launch"])
def test_numbers_below_the_smallest_normal_one_are_zeros_in_the_average(path):
    X, y = problem(ONE.sizes, ROWS)
    with fake_driver.installed(shared_limit=limit_of(path, ONE)) as gpu:
        both = Both(gpu)
        both.params[...] = 1e-40
        both.there = gpu.array(both.params), both.there[1]
        both.train(ONE.fit, X, y, epochs=1, lr=0.0)
        both.assert_equal()
        assert both.params.all()
        assert not both.average.value.any()


@pytest.mark.parametrize("path", [pytest.param("persistent", marks=ci), "multi_launch"])
def test_an_epoch_that_was_started_and_is_not_wanted_is_not_in_the_average(path):
    X, y = problem(ONE.sizes, ROWS)
    with fake_driver.installed(shared_limit=limit_of(path, ONE)) as gpu:
        both = Both(gpu)
        here, there = both.train(ONE.fit, X, y, epochs=6, target_loss=10.0)
        steps = -(-ROWS // BATCH)
        assert gpu.waits[0] == 2 * (1 if path == "persistent" else 3 * steps), "two epochs were started before a wait"
        assert (there.epochs, there.stopped) == (1, "target_loss")
        assert_equal_histories(there, here)
        both.assert_equal()
        assert both.average.steps == steps
        both.train(ONE.fit, X, y)
        both.assert_equal()


def test_an_epoch_that_ends_early_is_in_the_average_as_far_as_it_came(monkeypatch):
    X, y = problem(ONE.sizes, ROWS)
    monkeypatch.setattr(trainer, "CALL_SECONDS", 0.0)  # then each call is one step
    with fake_driver.installed(shared_limit=limit_of("multi_launch", ONE)) as gpu:
        both = Both(gpu)
        before, (params, vel) = both.params, both.there
        gpu.fail = "synchronize"
        with pytest.raises(RuntimeError, match="synchronize failed"):
            ONE.fit(params, X, y, batch_size=BATCH, vel=vel, average=both.average_there)
        assert both.average_there.steps == 1
        found = gpu.download(params)
        assert (found != before).any()
        np.testing.assert_array_equal(gpu.download(both.average_there.value), found)
        assert gpu.download(vel).any()


def test_copies_are_in_the_order_of_the_stream():
    X, y = problem(ONE.sizes, ROWS)
    with fake_driver.installed(shared_limit=limit_of("multi_launch", ONE)) as gpu:
        both = Both(gpu, stream=STREAM)
        del gpu.copies[:]
        both.train(ONE.fit, X, y)
        assert {stream for _, stream in gpu.copies} == {STREAM}
        assert {launch[2] for launch in gpu.launches} == {STREAM}
        assert gpu.ordered == []
        other = Average(gpu.array(both.params, stream=STREAM + 1))
        ONE.fit(both.there[0], X, y, 1, average=other)
        assert gpu.ordered == [(STREAM + 1, STREAM)]


def test_refusals_come_before_anything_is_written():
    X, y = problem(ONE.sizes, ROWS)
    size = ONE.size

    def valued(value, like):
        made = Average(like)
        made.value = value
        return made

    with fake_driver.installed(shared_limit=limit_of("multi_launch", ONE)) as gpu:
        both = Both(gpu)
        (params, vel), host = both.there, both.params
        together = gpu.array(np.ones(size + ROWS * 4, np.float32))
        rows = together[size - 1 : size - 1 + ROWS * 4].reshape(ROWS, 4)
        inside = valued(together[:size], params)
        for given, average, more, message in [
            (params, both.average, {}, "params lives on a CUDA device and average on the host; all arrays must be in"),
            (host, both.average_there, {}, "average lives on a CUDA device and params on the host; all arrays must be"),
            (params, Average(gpu.array(host[1:])), {}, r"average has shape \(14,\) .*; that of params is needed, \(15"),
            (params, Average(gpu.array(host.astype(float))), {}, "average has shape .* and dtype float64; that of par"),
            (params, Average([params]), {}, "average is of a list; that of params is needed"),
            (params, valued(params, params), {}, "average and params overlap in device memory; each needs its own"),
            (params, valued(vel, params), {"vel": vel}, "average and vel overlap in device memory; each needs its own"),
            (params, inside, {"X": rows}, "average and X overlap in device memory"),
            (params, inside, {"validation": (rows, y)}, "average and validation overlap in device memory"),
            (params, valued(gpu.array(host, device=1), params), {}, "the arrays are on different devices"),
            (params, both.average_there, {"optimizer": "schedule_free_sgd"}, "average is for other optimizers"),
        ]:
            with pytest.raises(ValueError, match=f"MLP.fit: {message}"):
                ONE.fit(given, **{"X": X, "y": y, "average": average, **more})
            assert average.steps == 0
        with pytest.raises(ValueError, match=r"fit_many: average has shape \(15,\) .*; that of params2d is needed"):
            fit_many(ONE, gpu.array(host[None]), X, y, average=both.average_there)
        assert not gpu.launches
        both.assert_equal()
        np.testing.assert_array_equal(host, ONE.init(0))
        assert (gpu.download(together) == 1).all()
