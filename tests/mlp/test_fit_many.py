"""`fit_many`: every network as `MLP.fit` alone trains it, to the last bit."""

import math
import warnings

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba import MLP
from nagd_numba.mlp import fit_many
from nagd_numba.mlp.cpu import trainer
from nagd_numba.schedules import Constant, Cosine, Fista, OneCycle, Plateau, StepDecay
from tests.helpers.backends import JIT_OFF
from tests.helpers.training import assert_same, changed, fitted, problem, read_only

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled kernels")


def networks(count, **about):
    net, _, X, y = problem(**about)
    return net, np.array([net.init(seed) for seed in range(count)], net.dtype).reshape(count, net.size), X, y


def each(x, m):
    return x[m] if isinstance(x, list | tuple | np.ndarray) and np.ndim(x) else x


def check(net, params, X, y, epochs=3, batch_size=16, lr=0.05, momentum=0.9, seed=0, **options):
    """`fit_many` against one training after another; returns what `fit_many` made."""
    vel = options.pop("vel", None)
    many_params, many_vel = params.copy(), np.zeros_like(params) if vel is None else vel.copy()
    histories = fit_many(
        *(net, many_params, X, y, epochs, batch_size, lr, momentum), seed=seed, vel=many_vel, **options
    )
    assert len(histories) == len(params)
    for m, history in enumerate(histories):
        alone = fitted(
            *(net, params[m], X, y, epochs, batch_size),
            **{"lr": each(lr, m), "momentum": each(momentum, m), "seed": each(seed, m)},
            **({} if vel is None else {"vel": vel[m]}),
            **options,
        )
        assert list(history.to_dict()) == list(alone[2].to_dict())
        assert history.epochs == alone[2].epochs
        assert history.stopped == alone[2].stopped
        assert history.seconds > 0
        assert_same((many_params[m], many_vel[m], history), alone)
    return many_params, many_vel, histories


@pytest.mark.parametrize(
    ("count", "about", "options"),
    [
        (5, {}, {}),
        (1, {}, {}),
        (3, {}, {"lr": [0.01, 0.1, 0.3], "momentum": (0.0, 0.5, 0.9), "seed": [5, 0, 2**64 - 1]}),
        (3, {}, {"lr": np.array([0.01, 0.1, 0.3], np.float32)}),
        (3, {}, {"lr": [0.1, Cosine(0.2, 3), lambda t: 0.1 / (t + 1)], "momentum": [Fista(), Constant(0.5), 0.9]}),
        (2, {}, {"lr": StepDecay(0.1, 1), "optimizer": "gd"}),
        (3, {"dropout": 0.4}, {"seed": [5, 6, 7], "batch_size": 9}),
        (3, {"l2": 0.1}, {"shuffle": False, "sample_weight": np.linspace(0, 1, 50)}),
        (3, {}, {"validation": 0.3, "metrics": ["accuracy"], "seed": 4}),
        (2, {}, {"validation": 0.3, "lr": [Plateau(0.3, patience=0, threshold=0.2), OneCycle(0.1, 3).times(2)]}),
        (3, {}, {"clip": 0.2, "accumulate": 3}),
        (3, {"sizes": (33, 70, 10), "rows": 70}, {"batch_size": 33, "seed": [1, 2, 3]}),
        (3, {"sizes": (5, 3)}, {"batch_size": 1}),
        (2, {"rows": 1}, {}),
    ],
)
def test_each_is_as_alone(count, about, options):
    net, params, X, y = networks(count, **about)
    check(net, params, X, y, **options)


def test_each_is_as_alone_with_data_for_validation():
    net, params, X, y = networks(3)
    _, _, X_other, y_other = networks(1, rows=80, seed=7)
    check(net, params, X, y, validation=(X_other, y_other), seed=[1, 2, 3], metrics="accuracy")


@given(count=st.integers(1, 7), rows=st.integers(1, 30), batch=st.integers(1, 32), seed=st.integers(0, 2**32))
def test_any_number(count, rows, batch, seed):
    net, params, X, y = networks(count, rows=rows)
    check(net, params, X, y, 2, batch, seed=[seed + m for m in range(count)])


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_have_no_influence(monkeypatch, threads):
    net, params, X, y = networks(5)
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    check(net, params, X, y, lr=[0.01, 0.02, 0.03, 0.04, 0.05])


def test_without_threads(monkeypatch):
    net, params, X, y = networks(3)
    monkeypatch.setattr(trainer.threading_layer, "parallel_allowed", lambda: False)
    check(net, params, X, y, seed=[1, 2, 3])


def test_given_velocities():
    net, params, X, y = networks(3)
    check(net, params, X, y, vel=np.random.default_rng(0).normal(size=params.shape).astype(np.float32))


def test_without_vel():
    net, params, X, y = networks(3)
    expected = check(net, params, X, y)[0]
    got = params.copy()
    fit_many(net, got, X, y, 3, 16)
    assert got.tobytes() == expected.tobytes()


def test_no_network():
    net, params, X, y = networks(0)
    assert fit_many(net, params, X, y) == []
    assert fit_many(net, params, X, y, lr=[], seed=[], validation=0.2) == []


def test_rows_of_a_larger_matrix():
    net, params, X, y = networks(5)
    expected = check(net, params, X, y)[0]
    whole = np.full((9, net.size), 7, np.float32)
    whole[2:7] = params
    fit_many(net, whole[2:7], X, y, 3, 16)
    assert whole[2:7].tobytes() == expected.tobytes()
    assert (whole[:2] == 7).all()
    assert (whole[7:] == 7).all()


def test_progress(capsys):
    net, params, X, y = networks(3)
    expected = check(net, params, X, y)[0]
    fit_many(net, params, X, y, 3, 16, progress=True)
    assert params.tobytes() == expected.tobytes()
    assert "epoch 3/3" in capsys.readouterr().out


def test_a_callback_stops_all():
    net, params, X, y = networks(3)
    expected = check(net, params, X, y, 2)[0]
    seen = []

    def callback(histories):
        seen.append([history.epochs for history in histories])
        return len(seen) == 2

    histories = fit_many(net, params, X, y, 10, 16, callback=callback)
    assert seen == [[1] * 3, [2] * 3]
    assert [(history.epochs, history.stopped) for history in histories] == [(2, "callback")] * 3
    assert params.tobytes() == expected.tobytes()


def test_divergence_of_one_leaves_the_others_alone():
    net, params, X, y = networks(5)
    expected = check(net, params[[0, 1, 3, 4]], X, y)[0]
    lr = [0.05, 0.05, 1e30, 0.05, 0.05]
    with pytest.warns(
        RuntimeWarning, match="1 of 5 trainings diverged: networks 2; of network 2 the loss is nan, params is"
    ) as told:
        histories = fit_many(net, params, X, y, 3, 16, lr)
    assert told[0].filename == __file__
    assert [history.stopped for history in histories] == [None, None, "diverged", None, None]
    assert not math.isfinite(histories[2].last("loss"))
    assert params[[0, 1, 3, 4]].tobytes() == expected.tobytes()


def test_a_network_whose_last_update_overflows():
    """Its losses are finite, and its parameters are not."""
    net, params, X, y = networks(3)
    with pytest.warns(RuntimeWarning, match=r"networks 1; of network 1 params is -?(inf|nan) at index \d+") as told:
        histories = fit_many(net, params, 1e3 * X, y, 1, len(X), [0.0, 1e38, 0.0], optimizer="gd")
    assert len(told) == 1
    assert math.isfinite(histories[1].last("loss"))
    assert [history.stopped for history in histories] == [None, "diverged", None]


def test_data_that_are_not_finite():
    net, params, X, y = networks(3)
    params[1, 4] = math.nan
    with pytest.raises(ValueError, match=r"^fit_many: params2d is nan in row 1, column 4; finite numbers are needed$"):
        fit_many(net, params, X, y)
    params[1, 4] = 0
    X[7, 2] = math.inf
    with pytest.raises(ValueError, match=r"^fit_many: X is inf in row 7, column 2; finite numbers are needed$"):
        fit_many(net, params, X, y)
    with pytest.raises(ValueError, match=r"^fit_many: params2d and X overlap in memory"):
        fit_many(net, params, params.reshape(-1)[: 3 * net.sizes[0]].reshape(3, -1), y[:3])


def test_tensors():
    torch = pytest.importorskip("torch")
    net, params, X, y = networks(3)
    expected = check(net, params, X, y)
    tensors = torch.from_numpy(params), torch.zeros(params.shape)
    fit_many(net, tensors[0], torch.from_numpy(X), torch.from_numpy(y), 3, 16, vel=tensors[1])
    assert tensors[0].numpy().tobytes() == expected[0].tobytes()
    assert tensors[1].numpy().tobytes() == expected[1].tobytes()
    assert [x._version for x in tensors] == [1, 1]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: {"params2d": a["params2d"][0]}, ValueError, r"params2d has shape \(66,\); a row of 66 parameters"),
        (lambda a: {"params2d": a["params2d"][:, :-1].copy()}, ValueError, r"params2d has shape \(3, 65\)"),
        (lambda a: {"params2d": np.asfortranarray(a["params2d"])}, ValueError, "params2d is strided"),
        (lambda a: {"params2d": a["params2d"].astype(float)}, TypeError, "params2d has dtype float64 and the model"),
        (lambda a: {"params2d": read_only(a["params2d"])}, ValueError, "params2d is read-only"),
        (lambda a: {"params2d": a["params2d"].tolist()}, TypeError, "params2d is a list"),
        (lambda a: {"vel": a["vel"][:2].copy()}, ValueError, r"vel has shape \(2, 66\); .*\(3, 66\)"),
        (lambda a: {"vel": a["params2d"]}, ValueError, "params2d and vel are the same memory"),
        (lambda a: {"vel": a["vel"][0]}, ValueError, r"vel has shape \(66,\)"),
        (lambda a: {"lr": [0.1, 0.2]}, ValueError, "lr has 2 values and there are 3 networks"),
        (lambda a: {"momentum": np.zeros(4)}, ValueError, "momentum has 4 values and there are 3 networks"),
        (lambda a: {"seed": (1, 2)}, ValueError, "seed has 2 values"),
        (lambda a: {"lr": [0.1, -1, 0.1]}, ValueError, "lr is -1"),
        (lambda a: {"lr": [0.1, 0.1, "x"]}, TypeError, "lr is 'x'"),
        (lambda a: {"lr": "0.1"}, TypeError, "lr is '0.1'"),
        (lambda a: {"lr": [0.1, 0.1, lambda t: math.nan if t == 3 else 0.1]}, ValueError, "lr is nan at update 3"),
        (lambda a: {"momentum": [0.9, math.nan, 0.9]}, ValueError, "momentum is nan"),
        (lambda a: {"seed": [1, 2, -3]}, ValueError, "seed is -3"),
        (lambda a: {"seed": 1.5}, TypeError, "seed is 1.5"),
        (lambda a: {"epochs": 0}, ValueError, "epochs is 0"),
        (lambda a: {"batch_size": 0}, ValueError, "batch_size is 0"),
        (lambda a: {"accumulate": 0}, ValueError, "accumulate is 0"),
        (lambda a: {"clip": -1}, ValueError, "clip is -1"),
        (lambda a: {"optimizer": "sgd"}, ValueError, "optimizer is 'sgd'"),
        (lambda a: {"metrics": "mse"}, ValueError, "metrics has 'mse'"),
        (lambda a: {"callback": 3}, TypeError, "callback is 3"),
        (lambda a: {"validation": 0.2, "seed": [1, 2, 3]}, ValueError, "seed differs; give"),
        (lambda a: {"validation": np.float32(0.2), "seed": [1, 2, 3]}, ValueError, "seed differs; give"),
        (lambda a: {"validation": 1.5}, ValueError, "validation is 1.5"),
        (lambda a: {"X": a["X"][:, :3]}, ValueError, r"X has shape \(50, 3\)"),
        (lambda a: {"y": a["y"][:-1]}, ValueError, r"y has shape \(49,\)"),
        (lambda a: {"y": changed(a["y"], 4, 3)}, ValueError, "y is 3 in row 4"),
        (lambda a: {"sample_weight": np.zeros(50)}, ValueError, "sample_weight"),
    ],
)
def test_unfit_arguments_are_refused_before_any_write(change, error, message):
    net, params, X, y = networks(3)
    arguments = {"params2d": params, "X": X, "y": y, "epochs": 2, "batch_size": 16, "vel": np.ones_like(params)}
    vel, before = arguments["vel"], params.copy()
    arguments.update(change(arguments))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=message):
            fit_many(net, **arguments)
    assert params.tobytes() == before.tobytes()
    assert (vel == 1).all()


def test_equal_seeds_may_share_the_rows_for_validation():
    net, params, X, y = networks(3)
    check(net, params, X, y, seed=[4, 4, 4], validation=0.3)


def test_networks_of_other_kinds():
    net = MLP((5, 7, 2), "tanh", "mse", dtype="float64")
    _, _, X, _ = problem()
    y = np.random.default_rng(0).normal(size=(50, 2))
    params = np.stack([net.init(seed) for seed in range(2)])
    check(net, params, X.astype(float), y, lr=[0.01, 0.1])
