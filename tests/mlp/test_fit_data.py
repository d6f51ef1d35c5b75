"""`MLP.fit`: the data that it takes, that it learns, and what its history records."""

import math
import tracemalloc

import numpy as np
import pytest

from nagd_numba import MLP
from nagd_numba.cli.data import load_digits
from nagd_numba.mlp.dataset import samples, split
from nagd_numba.schedules import Cosine, Fista
from tests.helpers.backends import JIT_OFF
from tests.helpers.training import BINARY, EPS32, TANH, assert_same, by_hand, fitted, problem

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled kernels")


# --- data --------------------------------------------------------------------------------------------------------


def test_data_of_other_kinds(tmp_path):
    net, params, X, y = problem()
    X = np.round(4 * X)
    expected = fitted(net, params, X, y)
    np.save(tmp_path / "X.npy", X)
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.zeros((100, 10), np.float32)
    wide[::2, ::2] = X
    for other in (
        *(X.astype(np.float64), X.astype(np.int32), X.astype(np.int8), X.astype(np.float16), X.astype(">f4")),
        *(np.asfortranarray(X), read_only, wide[::2, ::2], X.tolist(), np.load(tmp_path / "X.npy", mmap_mode="r")),
    ):
        assert_same(fitted(net, params, other, y), expected)
    labels = y.copy()
    labels.flags.writeable = False
    np.save(tmp_path / "y.npy", y)
    for other in (
        *(y.astype(np.uint8), y.astype(np.uint64), y.astype(">i4"), y.tolist(), labels, np.repeat(y, 2)[::2]),
        np.load(tmp_path / "y.npy", mmap_mode="r"),
    ):
        assert_same(fitted(net, params, X, other), expected)


def test_wide_numbers_are_rounded_as_by_astype():
    net, params, X, y = problem()
    X = X.astype(np.float64) / 3
    assert_same(fitted(net, params, X, y), fitted(net, params, X.astype(np.float32), y))


def test_pictures():
    net, params, _, y = problem()
    X = np.random.default_rng(0).integers(0, 256, (50, 5)).astype(np.uint8)
    expected = fitted(net, params, X.astype(np.float32) * np.float32(1 / 255), y)
    assert_same(fitted(net, params, X, y), expected)
    assert_same(fitted(net, params, np.asfortranarray(X), y), expected)


def test_tensors():
    torch = pytest.importorskip("torch")
    net, params, X, y = problem()
    expected = fitted(net, params, X, y)
    tensors = torch.from_numpy(params.copy()), torch.zeros(net.size)
    history = net.fit(tensors[0], torch.from_numpy(X), torch.from_numpy(y), 3, 16, vel=tensors[1])
    assert_same((tensors[0].numpy(), tensors[1].numpy(), history), expected)
    assert [x._version for x in tensors] == [1, 1]


def test_a_memory_map_is_not_copied(tmp_path):
    rows = 65_000
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (rows, 784))  # 204 MB, not on the disk
    X[::1000, 0] = 1
    del X
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert X.nbytes > 200e6
    net = MLP((784, 2, 2))
    params, y = net.init(0), np.zeros(rows, int)
    net.fit(params.copy(), X[:10], y[:10], 1)  # compiles
    tracemalloc.start()
    net.fit(params, X, y, 1, 512, validation=0.1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


# --- learning ----------------------------------------------------------------------------------------------------


def test_digits():
    digits = load_digits()
    X = (digits.X / 16).astype(np.float32)
    net = MLP((64, 64, 10))
    history = net.fit(net.init(0), X, digits.y, 10, 32, validation=0.2, metrics=["accuracy"])
    assert history.last("validation_accuracy") > 0.95
    assert history["accuracy"][-1] > history["accuracy"][0]


def test_regression_of_two_outputs():
    X = np.random.default_rng(0).uniform(-2, 2, (400, 1))
    y = np.hstack([np.sin(2 * X), np.abs(X)])
    net = MLP((1, 24, 2), **TANH)
    history = net.fit(net.init(0), X, y, 150, 32, lr=Cosine(0.2, 150), validation=0.25, metrics=["mse", "mae"])
    assert history.last("validation_mse") < 0.02 * y.var()
    assert history.last("validation_mae") < math.sqrt(history.last("validation_mse"))


def test_classes_that_no_line_separates():
    X = np.random.default_rng(0).uniform(-1, 1, (400, 2)).astype(np.float32)
    y = X[:, 0] * X[:, 1] > 0
    net = MLP((2, 24, 1), **BINARY)
    history = net.fit(net.init(1), X, y, 60, 16, lr=0.2, validation=0.25, metrics=["accuracy"])
    assert history.last("validation_accuracy") > 0.95


def test_fista_bound():
    """Least squares with all rows in a batch and FISTA's momentum: f(x_k) - f* <= 2 L |x_0 - x*|^2 / (k+1)^2."""
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 6)) * np.geomspace(1, 0.01, 6)
    y = X @ random.normal(size=(6, 2))
    net = MLP((6, 2), **TANH)
    A = np.hstack([X, np.ones((40, 1))])
    lipschitz = np.linalg.eigvalsh(A.T @ A / 40).max()  # of the mean over 40 rows and 2 outputs of (z - y)^2
    solution = np.linalg.lstsq(A, y)[0].reshape(-1)
    params, vel = np.zeros(net.size), np.zeros(net.size)
    for k in (1, 2, 5, 20, 100):
        params[:], vel[:] = 0, 0
        net.fit(params, X, y, k, 40, 1 / lipschitz, Fista(), vel=vel)
        after = Fista().values(np.array([k]), None)[0]
        iterate = params + after / lipschitz * vel
        assert net.loss(iterate, X, y) <= 2 * lipschitz * (solution**2).sum() / (k + 1) ** 2 + 1e-15


# --- what is recorded --------------------------------------------------------------------------------------------


def test_a_share_of_the_rows_is_held_back():
    net, params, X, y = problem(rows=53, l2=0.1, dropout=0.4)
    got, _, history = fitted(net, params, X, y, validation=0.3, seed=6)
    parts = split(net.spec, samples(net.spec, X, y), 0.3, 6)
    assert len(parts.validation_rows) == round(0.3 * 53)
    assert sorted([*parts.rows, *parts.validation_rows]) == list(range(53))
    assert list(parts.rows) != list(split(net.spec, samples(net.spec, X, y), 0.3, 7).rows)
    want = by_hand(net, params, X[parts.rows], y[parts.rows], seed=6)
    assert got.tobytes() == want[0].tobytes()
    plain = MLP((5, 7, 3))
    expected = plain.loss(got, X[parts.validation_rows], y[parts.validation_rows])
    assert history.last("validation_loss") == pytest.approx(expected, rel=1e-14)


def outputs_reference(net, params, X, y):
    """Loss, accuracy, mae and mse, from the outputs, in plain NumPy."""
    z = net.forward(params, X).astype(float)
    if net.loss_name == "cross_entropy":
        losses = np.log(np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1)) + z.max(axis=1) - z[np.arange(len(y)), y]
        return losses, z.argmax(axis=1) == y, None, None
    error = z - y
    if net.loss_name == "mse":
        return (error**2).mean(axis=1), z.argmax(axis=1) == y.argmax(axis=1), abs(error), error**2
    losses = (np.logaddexp(0, z) - y * z).mean(axis=1)
    return losses, (z > 0) == (y > 0.5), abs(error), error**2


@pytest.mark.parametrize("about", [{}, {**TANH, "sizes": (5, 7, 2)}, {**BINARY, "sizes": (5, 7, 2)}], ids=str)
def test_validation_and_metrics(about):
    """More rows than the kernel takes at once; losses in the network's dtype, sums in float64."""
    net, params, X, y = problem(**about)
    _, _, X_other, y_other = problem(**about, rows=150, seed=1)
    names = ["accuracy"] if net.loss_name == "cross_entropy" else ["accuracy", "mae", "mse"]
    got, _, history = fitted(net, params, X, y, validation=(X_other, y_other), metrics=names)
    losses, right, absolute, square = outputs_reference(net, got, X_other, y_other)
    eps = float(np.finfo(net.dtype).eps)  # losses and outputs of order 1, with some roundings each
    assert history.last("validation_loss") == pytest.approx(losses.mean(), rel=20 * eps)
    assert history.last("validation_accuracy") == pytest.approx(right.mean(), rel=1e-14)
    if absolute is not None:
        assert history.last("validation_mae") == pytest.approx(absolute.mean(), rel=1e-13)
        assert history.last("validation_mse") == pytest.approx(square.mean(), rel=1e-13)
    # The first epoch in one batch: measured before its update.
    _, _, first = fitted(net, params, X, y, 1, 50, metrics=names)
    losses, right, absolute, square = outputs_reference(net, params, X, y)
    assert first.last("loss") == pytest.approx(losses.mean(), rel=20 * eps)
    assert first.last("accuracy") == pytest.approx(right.mean(), rel=1e-14)
    if absolute is not None:
        assert first.last("mae") == pytest.approx(absolute.mean(), rel=1e-13)
        assert first.last("mse") == pytest.approx(square.mean(), rel=1e-13)
    assert sorted(first.to_dict()) == sorted(["loss", "lr", "momentum", *names])


def test_metrics_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    net, params, X, y = problem()
    weights = np.random.default_rng(0).uniform(0, 1, 50)
    got, _, history = fitted(net, params, X, y, validation=(X, y, weights), metrics="accuracy")
    shares = net.predict_proba(got, X).astype(float)
    shares /= shares.sum(axis=1, keepdims=True)
    expected = metrics.log_loss(y, shares, sample_weight=weights, labels=range(3))
    assert history.last("validation_loss") == pytest.approx(expected, rel=50 * EPS32)
    accuracy = metrics.accuracy_score(y, net.predict(got, X), sample_weight=weights.astype(np.float32))
    assert history.last("validation_accuracy") == pytest.approx(accuracy, rel=1e-12)


def test_the_loss_has_the_penalty_and_the_weights():
    net, params, X, y = problem(l2=0.5)
    weights = np.random.default_rng(0).uniform(0, 1, 50).astype(np.float32)
    _, _, history = fitted(net, params, X, y, 1, 10, lr=0.0, sample_weight=weights)
    losses = outputs_reference(net, params, X, y)[0]
    views = net.unflatten(params.astype(float).astype(np.float32))
    penalty = 0.25 * sum((views[name].astype(float) ** 2).sum() for name in ("W1", "W2"))
    expected = (losses * weights).sum() / weights.sum(dtype=float) + penalty
    assert history.last("loss") == pytest.approx(expected, rel=20 * EPS32)


def test_rates_are_those_of_the_last_update():
    net, params, X, y = problem()
    _, _, history = fitted(net, params, X, y, lr=lambda t: 0.001 * t, momentum=lambda t: 0.01 * t)
    np.testing.assert_allclose(history["lr"], [0.003, 0.007, 0.011])
    np.testing.assert_allclose(history["momentum"], [0.03, 0.07, 0.11])
    assert not fitted(net, params, X, y, optimizer="gd")[2]["momentum"].any()
    assert history.epochs == 3
    assert history.stopped is None
    assert history.seconds > 0


def test_a_function_is_asked_once_an_update():
    net, params, X, y = problem()
    asked = []
    fitted(net, params, X, y, lr=lambda t: asked.append(t) or 0.1)
    assert asked == list(range(12))
