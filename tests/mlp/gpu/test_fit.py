"""`MLP.fit`, `fit_many` and the main job on device arrays, in the emulator: the bits of the CPU, on both paths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nagd_numba
from nagd_numba import MLP
from nagd_numba.cli.comparison import compare
from nagd_numba.cli.config import Config, SweepConfig
from nagd_numba.cli.data.samples import Samples
from nagd_numba.cli.data.split import split
from nagd_numba.cli.grid import Sweep
from nagd_numba.mlp.gpu import persistent
from nagd_numba.mlp.rates import OPTIMIZERS, rule_of
from tests.helpers import driverless, fake_driver
from tests.helpers.device_training import assert_equal_histories, problem

FITS, TOO_LARGE = 227 << 10, 0  # bytes of shared memory: for the persistent kernel, or too few for it


@pytest.fixture(autouse=True)
def compiler():
    driverless.require()


def assert_same_course(limit, net, X, y, order="forward", **keywords):
    """Train on the CPU and in the emulator; returns the names of the launched kernels."""
    states = len(rule_of(keywords.get("optimizer", "nag"))[0].states)
    host, velocity = net.init(0), np.zeros(states * net.size, net.dtype)
    with fake_driver.installed(shared_limit=limit, order=order) as gpu:
        params, vel = gpu.array(host), gpu.array(velocity)
        there = net.fit(params, gpu.array(X), gpu.array(y), vel=vel, **keywords)
        here = net.fit(host, X, y, vel=velocity, **keywords)
        np.testing.assert_array_equal(gpu.download(params), host)
        np.testing.assert_array_equal(gpu.download(vel), velocity)
        assert_equal_histories(there, here)
        return {launch[0] for launch in gpu.launches}


@pytest.mark.parametrize(
    "limit",
    [pytest.param(FITS, id="persistent"), pytest.param(TOO_LARGE, id="multi_launch", marks=pytest.mark.slow)],
)
@settings(max_examples=2)
@given(
    sizes=st.lists(st.sampled_from([1, 3, 10, 33, 70]), min_size=2, max_size=4),
    rows=st.integers(1, 50),
    batch=st.integers(1, 40),
    seed=st.integers(0, 2**31),
    order=st.sampled_from(["forward", "reverse", "random"]),
)
def test_drawn_networks(limit, sizes, rows, batch, seed, order):
    net = MLP(sizes, activation="tanh", loss="mse")
    X, y = problem(sizes, rows, "mse", seed=seed)
    assert_same_course(limit, net, X, y, order, epochs=2, batch_size=batch, seed=seed, lr=0.1)


@pytest.mark.parametrize(
    ("limit", "model", "inputs", "keywords"),
    [
        pytest.param(
            *(FITS, {"dropout": 0.3, "l2": 0.01}, "float32", {"metrics": ["accuracy"], "validation": 0.2}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(TOO_LARGE, {"dropout": 0.3, "l2": 0.01}, "float32", {"metrics": ["accuracy"], "validation": 0.2}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(FITS, {"dtype": "float64", "activation": "tanh"}, "float64", {"optimizer": "momentum"}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            FITS,
            {"loss": "binary_cross_entropy", "activation": "sigmoid"},
            "float32",
            {"metrics": ["accuracy", "mae"]},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(TOO_LARGE, {}, "float32", {"label_smoothing": 0.1, "class_weight": "balanced", "metrics": ["accuracy"]}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(FITS, {}, "float32", {"label_smoothing": 0.1, "validation": 0.2, "metrics": ["accuracy"]}),
            marks=pytest.mark.slow,
        ),
        (TOO_LARGE, {"l2": 0.1}, "uint8", {"sample_weight": np.linspace(0, 2, 60), "keep": "best"}),
        pytest.param(
            *(TOO_LARGE, {}, "float64", {"optimizer": "gd", "lr": nagd_numba.schedules.Cosine(0.2, epochs=3)}),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_everything_that_fit_offers(limit, model, inputs, keywords):
    net = MLP([6, 40, 5], **model)
    X, y = problem(net.sizes, 60, net.loss_name, str(net.dtype), inputs)
    assert_same_course(limit, net, X, y, **{"epochs": 3, "batch_size": 16, **keywords})


@pytest.mark.parametrize(
    "keywords", [pytest.param({"accumulate": 3}, marks=pytest.mark.slow), {"clip": 0.5, "accumulate": 2}]
)
def test_clipping_and_accumulation_take_several_launches_a_step(keywords):
    net = MLP([6, 20, 5], l2=0.01)
    X, y = problem(net.sizes, 50)
    launched = assert_same_course(FITS, net, X, y, epochs=2, batch_size=8, **keywords)
    assert not any("persistent" in name for name in launched)


@pytest.mark.parametrize(
    ("optimizer", "limit", "keywords"),
    [
        pytest.param("adam", FITS, {}, marks=pytest.mark.slow),
        ("nadam", TOO_LARGE, {}),
        pytest.param("adamw", FITS, {"clip": 0.5}, marks=pytest.mark.slow),
        pytest.param("adam", TOO_LARGE, {"accumulate": 2}, marks=pytest.mark.slow),
        pytest.param("adamw", TOO_LARGE, {}, marks=pytest.mark.slow),
        pytest.param("nadam", FITS, {}, marks=pytest.mark.slow),
        pytest.param("lion", FITS, {}, marks=pytest.mark.slow),
        pytest.param("rmsprop", FITS, {}, marks=pytest.mark.slow),
        pytest.param("adagrad", TOO_LARGE, {}, marks=pytest.mark.slow),
        pytest.param("schedule_free_sgd", FITS, {"validation": 0.2}, marks=pytest.mark.slow),
        pytest.param("schedule_free_adamw", TOO_LARGE, {}, marks=pytest.mark.slow),
    ],
)
def test_optimizers(optimizer, limit, keywords):
    net = MLP([6, 20, 5], dropout=0.3, l2=0.01)
    X, y = problem(net.sizes, 50)
    keywords = {"epochs": 2, "batch_size": 8, "optimizer": optimizer, **keywords}
    assert_same_course(limit, net, X, y, lr=0.01, **keywords)
    host = np.stack([net.init(seed) for seed in range(2)])
    with fake_driver.installed(shared_limit=limit) as gpu:
        params = gpu.array(host)
        both = (nagd_numba.fit_many(net, x, X[:20], y[:20], lr=[0.01, 0.001], **keywords) for x in (params, host))
        for there, here in zip(*both, strict=True):
            assert_equal_histories(there, here)
        np.testing.assert_array_equal(gpu.download(params), host)


def test_every_optimizer_is_tested_on_a_device():
    (cases,) = (mark.args[1] for mark in test_optimizers.pytestmark)
    tested = {getattr(case, "values", case)[0] for case in cases}
    assert tested | {"nag", "momentum", "gd"} == set(OPTIMIZERS)


@pytest.mark.parametrize(
    ("keywords", "stopped"),
    [
        pytest.param({"lr": 1e20}, "diverged", marks=pytest.mark.slow),
        ({"lr": 0.0, "patience": 2}, "patience"),
        ({"target_loss": 10.0}, "target_loss"),
        ({"lr": nagd_numba.schedules.Adaptive(1.0, patience=0, tolerance=1.0, least=0.5)}, "lr"),
        ({"callback": lambda history: history.epochs == 2}, "callback"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
@pytest.mark.filterwarnings("ignore:MLP.fit|training diverged:RuntimeWarning")
def test_a_training_that_ends_early_leaves_what_it_was_then(keywords, stopped):
    """Though the epoch after its last may have been started already."""
    net = MLP([5, 8, 3])
    X, y = problem(net.sizes, 20)
    host, velocity = net.init(0), np.zeros(net.size, np.float32)
    with fake_driver.installed() as gpu:
        params, vel = gpu.array(host), gpu.array(velocity)
        keywords = {"epochs": 6, "batch_size": 8, **keywords}
        there = net.fit(params, X, y, vel=vel, **keywords)
        here = net.fit(host, X, y, vel=velocity, **keywords)
        assert there.stopped == stopped
        assert there.epochs < 6
        assert_equal_histories(there, here)
        np.testing.assert_array_equal(gpu.download(params), host)
        np.testing.assert_array_equal(gpu.download(vel), velocity)


@pytest.mark.parametrize(
    ("keywords", "ahead"),
    [
        ({}, True),
        pytest.param(
            {"lr": nagd_numba.schedules.Cosine(0.1, 3), "patience": 2, "metrics": ["accuracy"]},
            True,
            marks=pytest.mark.slow,
        ),
        ({"callback": lambda history: None}, False),
        ({"keep": "best"}, False),
        ({"lr": lambda t: 0.1}, False),
        ({"lr": nagd_numba.schedules.Plateau(0.1), "momentum": nagd_numba.schedules.OneCycle(0.8, 3)}, False),
        ({"validation": 0.2}, False),
    ],
)
def test_the_next_epoch_is_started_before_the_sums_of_the_last_where_nobody_can_tell(keywords, ahead):
    net = MLP([5, 8, 3])
    X, y = problem(net.sizes, 20)
    with fake_driver.installed() as gpu:
        net.fit(gpu.array(net.init(0)), X, y, epochs=3, **keywords)
        names = [launch[0] for launch in gpu.launches[: gpu.waits[0]]]
        assert sum("persistent" in name for name in names) == (2 if ahead else 1)


@pytest.mark.slow
def test_sums_longer_than_a_block():
    """Batches and layers of more than 128 terms: chains of fma over 128, added."""
    net = MLP([150, 140, 3])
    X, y = problem(net.sizes, 300)
    assert_same_course(FITS, net, X, y, epochs=1, batch_size=140)


def test_the_persistent_kernel_is_one_launch_for_many_steps():
    net = MLP([5, 16, 3])
    X, y = problem(net.sizes, 64)
    with fake_driver.installed() as gpu:
        net.fit(gpu.array(net.init(0)), X, y, epochs=2, batch_size=4)
        assert len(gpu.launches) <= 2 * 2
        assert all("persistent" in launch[0] for launch in gpu.launches)


@pytest.mark.parametrize("rows", [1, 7, 32])
def test_the_plan_of_the_shared_memory_is_exact(rows):
    """The emulator refuses what lies beyond; one element less and the kernel fails."""
    net = MLP([6, 9, 4], l2=0.1)
    X, y = problem(net.sizes, rows)
    assert_same_course(FITS, net, X, y, epochs=1, batch_size=rows)
    elements = persistent.SharedMemory.of(net.sizes, rows, states=1).total
    assert elements * 4 < FITS


@pytest.mark.parametrize(
    "limit", [pytest.param(FITS, id="persistent", marks=pytest.mark.slow), pytest.param(TOO_LARGE, id="multi_launch")]
)
def test_many_networks(limit):
    net = MLP([5, 16, 3], dropout=0.2)
    X, y = problem(net.sizes, 40)
    host = np.stack([net.init(seed) for seed in range(3)])
    keywords = {"epochs": 2, "batch_size": 16, "lr": [0.01, 0.1, 1.0], "momentum": [0.5, 0.9, 0.0], "seed": [4, 5, 6]}
    with fake_driver.installed(shared_limit=limit) as gpu:
        device = gpu.array(host)
        there = nagd_numba.fit_many(net, device, gpu.array(X), y, validation=(X, y), **keywords)
        here = nagd_numba.fit_many(net, host, X, y, validation=(X, y), **keywords)
        np.testing.assert_array_equal(gpu.download(device), host)
        if limit:
            trained = [launch for launch in gpu.launches if "persistent" in launch[0]]
            assert len(trained) == 2, "one launch for all networks"
    for a, b in zip(there, here, strict=True):
        np.testing.assert_array_equal(a.values("loss"), b.values("loss"))
        assert a.last("validation_loss") == b.last("validation_loss")


def test_a_training_goes_on():
    net = MLP([5, 16, 3])
    X, y = problem(net.sizes, 40)
    with fake_driver.installed() as gpu:
        whole, parts, vel = gpu.array(net.init(0)), gpu.array(net.init(0)), gpu.array(np.zeros(net.size, np.float32))
        net.fit(whole, X, y, epochs=3)
        history = net.fit(parts, X, y, epochs=1, vel=vel)
        net.fit(parts, X, y, epochs=3, vel=vel, history=history)
        np.testing.assert_array_equal(gpu.download(whole), gpu.download(parts))


@pytest.mark.parametrize("call", ["empty", "load", "launch"])
def test_a_driver_that_fails_leaves_the_parameters(call):
    net = MLP([5, 16, 3])
    X, y = problem(net.sizes, 40)
    with fake_driver.installed() as gpu:
        params = gpu.array(net.init(0))
        gpu.fail = call
        with pytest.raises((RuntimeError, MemoryError), match=r"CUDA_ERROR_OUT_OF_MEMORY"):
            net.fit(params, X, y)
        np.testing.assert_array_equal(gpu.download(params), net.init(0))


def test_refusals():
    net = MLP([5, 16, 3])
    X, y = problem(net.sizes, 40)
    with fake_driver.installed() as gpu:
        params = gpu.array(net.init(0))
        for arguments, keywords, error, message in [
            ((gpu.array(np.zeros(net.size)), X, y), {}, TypeError, "params has dtype float64 and the model float32"),
            ((gpu.array(net.init(0)[1:]), X, y), {}, ValueError, "params has shape"),
            ((params, gpu.array(X[:, 1:].copy()), y), {}, ValueError, "X has shape"),
            ((params, X, gpu.array(y + 3)), {}, ValueError, "y"),
            ((params, X, y), {"vel": net.init(0)}, ValueError, "params lives on a CUDA device and vel on the host"),
            ((params, X, y), {"vel": params}, ValueError, "params and vel overlap"),
            ((params, gpu.array(X, device=1), y), {}, ValueError, "different devices"),
            ((net.init(0), gpu.array(X), y), {}, TypeError, "X is on a CUDA device"),
        ]:
            with pytest.raises(error, match=message):
                net.fit(*arguments, **keywords)
        np.testing.assert_array_equal(gpu.download(params), net.init(0))
        assert not gpu.launches


def test_the_main_job_runs_on_a_device():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    samples = Samples(X, np.repeat(np.arange(3), 20), np.arange(3), "drawn")
    data = split(samples, 0.2, 0)
    with fake_driver.installed() as gpu:
        there, here = (
            compare(data, Config(methods=("nag", "gd"), epochs=2, hidden=(8,), loss="mse", device=device))
            for device in ("cuda", "cpu")
        )
        assert gpu.launches
    for a, b in zip(there, here, strict=True):
        assert [e.validation_loss for e in a.history] == pytest.approx([e.validation_loss for e in b.history], rel=1e-6)
        assert [e.validation_accuracy for e in a.history] == [e.validation_accuracy for e in b.history]


def test_what_is_refused_of_a_device():
    """Samples, parameters and states are checked on the host; X may not be in what is trained."""
    net = MLP([3, 2])
    X, y = problem([3, 2], 5)
    params, vel = net.init(0), np.zeros(net.size, np.float32)
    with fake_driver.installed() as gpu:
        for name, index, where in (
            ("params", 3, "at index 3"),
            ("vel", 0, "at index 0"),
            ("X", (4, 1), "in row 4, column 1"),
        ):
            given = {"params": params.copy(), "vel": vel.copy(), "X": X.copy()}
            given[name][index] = np.nan
            with pytest.raises(ValueError, match=f"MLP.fit: {name} is nan {where}; finite numbers are needed"):
                net.fit(**{key: gpu.array(x) for key, x in given.items()}, y=y)
        together = gpu.array(np.ones(16, np.float32))
        with pytest.raises(ValueError, match=r"MLP\.fit: params and X overlap in device memory"):
            net.fit(together[: net.size], together[1:16].reshape(5, 3), gpu.array(y))
        assert not gpu.launches


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["nag", "adam"])
def test_a_sweep_runs_on_a_device(optimizer):
    rng = np.random.default_rng(0)
    samples = Samples(rng.normal(size=(60, 5)), np.repeat(np.arange(3), 20), np.arange(3), "drawn")
    data = split(samples, 0.2, 0)
    with fake_driver.installed() as gpu:
        there, here = (
            Sweep(
                data, SweepConfig(Config(epochs=2, hidden=(8,), device=device), (0.01, 0.1), (0.5, 0.9), 1, optimizer)
            )
            for device in ("cuda", "cpu")
        )
        for sweep in (there, here):
            sweep.run()
        assert gpu.launches
    for a, b in zip(there.networks, here.networks, strict=True):
        np.testing.assert_array_equal(a.params, b.params)
        assert (a.accuracy, a.diverged) == (b.accuracy, b.diverged)
        assert_equal_histories(a.history, b.history)
