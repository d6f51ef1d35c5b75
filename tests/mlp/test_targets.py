"""Targets other than integer labels, smoothed ones, and weights of classes: beside PyTorch and scikit-learn."""

import numpy as np
import pytest

from nagd_numba import MLP, fit_many
from tests.helpers.backends import JIT_OFF
from tests.helpers.training import assert_same, fitted, problem

pytestmark = pytest.mark.skipif(JIT_OFF, reason="takes long without compilation")


def soft(rows=50, outputs=3, seed=3):
    p = np.random.default_rng(seed).random((rows, outputs)) ** 3
    return p / p.sum(axis=1, keepdims=True)


def hot(y, outputs=3, dtype=np.float32):
    return np.eye(outputs, dtype=dtype)[y]


def loss_of_torch(net, params, X, criterion, targets):
    """The value and the gradient of a network's loss by PyTorch, in float64."""
    torch = pytest.importorskip("torch")
    weights = {name: torch.tensor(x, requires_grad=True) for name, x in net.unflatten(params.astype(float)).items()}
    h = torch.tensor(X, dtype=torch.float64)
    for layer in range(1, len(net.sizes)):
        h = h @ weights[f"W{layer}"] + weights[f"b{layer}"]
        h = torch.relu(h) if layer < len(net.sizes) - 1 else h
    value = criterion(h, torch.tensor(targets))
    value.backward()
    return value.item(), np.concatenate([x.grad.numpy().ravel() for x in weights.values()])


@pytest.mark.parametrize("y", [soft(), hot(np.arange(50) % 3, dtype=float)], ids=["soft", "one-hot"])
def test_probabilities_as_in_torch(y):
    torch = pytest.importorskip("torch")
    net, params, X, _ = problem(dtype="float64")
    value, grads = net.value_and_grad(params, X, y)
    expected = loss_of_torch(net, params, X, torch.nn.CrossEntropyLoss(), y)
    assert value == pytest.approx(expected[0], rel=1e-14)
    assert net.loss(params, X, y) == pytest.approx(expected[0], rel=1e-14)
    np.testing.assert_allclose(grads, expected[1], rtol=1e-12, atol=1e-15)


def test_one_hot_targets_have_the_bits_of_labels():
    net, params, X, y = problem(l2=0.01, dropout=0.3)
    options = {"metrics": ["accuracy"], "validation": 0.3, "sample_weight": np.linspace(0.5, 1, 50), "lr": 0.1}
    expected = fitted(net, params, X, y, **options)
    for dtype in (np.float32, np.float64, bool, np.int8, np.float16):
        assert_same(fitted(net, params, X, hot(y, dtype=dtype), **options), expected)
    value, grads = net.value_and_grad(params, X, y, dropout_seed=5)
    given = net.value_and_grad(params, X, hot(y, dtype=bool), dropout_seed=5)
    assert (given[0], given[1].tobytes()) == (value, grads.tobytes())


def test_boolean_labels():
    X = problem()[2]
    y = X[:, 0] > 0
    for loss, outputs in (("cross_entropy", 2), ("mse", 2), ("binary_cross_entropy", 1)):
        net = MLP([5, 4, outputs], loss=loss)
        params = net.init(0)
        assert_same(fitted(net, params, X, y), fitted(net, params, X, y.astype(int)))
        assert net.loss(params, X, y) == net.loss(params, X, y.astype(int))


def one_step(net, params, X, y, **options):
    """The gradient and the loss of the one batch of a training, from a step of gradient descent in float64."""
    after, _, history = fitted(net, params, X, y, 1, len(X), lr=1.0, optimizer="gd", **options)
    return history.last("loss"), params - after


@pytest.mark.parametrize("smoothing", [0.1, 0.7])
def test_label_smoothing_as_in_torch(smoothing):
    torch = pytest.importorskip("torch")
    net, params, X, y = problem(dtype="float64")
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    for targets in (y, soft()):
        value, grads = one_step(net, params, X, targets, label_smoothing=smoothing)
        expected = loss_of_torch(net, params, X, criterion, targets)
        assert value == pytest.approx(expected[0], rel=1e-14)
        np.testing.assert_allclose(grads, expected[1], rtol=1e-12, atol=1e-14)


def test_label_smoothing_is_a_training_on_soft_targets():
    net, params, X, y = problem()
    least = 0.1 / 3
    targets = np.where(hot(y) == 1, 1 - 0.1 + least, least).astype(np.float32)
    options = {"validation": (X[:20], y[:20]), "metrics": ["accuracy"]}
    got = fitted(net, params, X, y, label_smoothing=0.1, **options)
    assert_same(got, fitted(net, params, X, targets, **{**options, "validation": (X[:20], targets[:20])}))
    many = np.stack([params] * 2)
    histories = fit_many(net, many, X, y, 3, 16, label_smoothing=0.1, **options)
    assert many[1].tobytes() == got[0].tobytes()
    assert histories[1].to_dict()["validation_loss"].tolist() == got[2]["validation_loss"].tolist()


def test_class_weights_as_in_torch():
    torch = pytest.importorskip("torch")
    net, params, X, y = problem(dtype="float64")
    criterion = torch.nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64))
    value, grads = one_step(net, params, X, y, class_weight={0: 0.5, 2: 3})
    expected = loss_of_torch(net, params, X, criterion, y)
    assert value == pytest.approx(expected[0], rel=1e-14)
    np.testing.assert_allclose(grads, expected[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "binary_cross_entropy"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 2.5}, {True: 0}])
def test_class_weights_are_those_of_scikit_learn(loss, weighted, class_weight):
    """As `sample_weight` they give the same training."""
    utils = pytest.importorskip("sklearn.utils.class_weight")
    X = problem()[2]
    y = (X[:, 0] > 0.5).astype(int)
    own = np.random.default_rng(0).random(50) if weighted else np.ones(50)
    chosen = utils.compute_class_weight(class_weight, classes=np.array([0, 1]), y=y, sample_weight=own)
    net = MLP([5, 4, 1 if loss == "binary_cross_entropy" else 2], loss=loss)
    params = net.init(0)
    got = fitted(net, params, X, y, class_weight=class_weight, sample_weight=own if weighted else None)
    assert_same(got, fitted(net, params, X, y, sample_weight=own * chosen[y]))


@pytest.mark.parametrize(
    ("y", "options", "error", "message"),
    [
        (np.ones((50, 3)) / 2, {}, ValueError, r"y sums to 1.5 in row 0; .* a sum of 1 .*: y / y.sum\(axis=1"),
        (
            [[0.5, 0.625, -0.125]] * 50,
            {},
            ValueError,
            r"y is -0.125 in row 0, column 2; cross_entropy needs labels, or a prob",
        ),
        ([[0.5, 0.5, np.nan]] * 50, {}, ValueError, "y (is nan in row 0, column 2|sums to nan in row 0)"),
        (
            np.ones((50, 2)) / 2,
            {},
            ValueError,
            r"y has shape \(50, 2\) and X 50 rows; .* or a probability for each class: .*\(50, 3\)",
        ),
        (np.ones(50), {}, TypeError, "y has dtype float64; cross_entropy needs integer labels"),
        (soft(), {"class_weight": "balanced"}, ValueError, r"class_weight is given, and y has shape \(50, 3\)"),
        (None, {"class_weight": {3: 1}}, ValueError, "class_weight has the class 3; the classes are 0 to 2"),
        (None, {"class_weight": {1: -1}}, ValueError, r"class_weight\[1\] is -1"),
        (None, {"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, "class_weight makes weights .* all 0"),
        (None, {"class_weight": {1: 1e300}}, ValueError, "class_weight makes weights .* not finite"),
        (None, {"class_weight": "even"}, TypeError, "class_weight is 'even'; None, 'balanced' or a dict"),
        (None, {"label_smoothing": 1.0}, ValueError, "label_smoothing is 1"),
        (None, {"label_smoothing": "0.1"}, TypeError, "label_smoothing is '0.1'"),
    ],
)
def test_refused_before_any_write(y, options, error, message):
    net, params, X, labels = problem()
    before = params.copy()
    with pytest.raises(error, match=f"^MLP.fit: {message}"):
        net.fit(params, X, labels if y is None else y, **options)
    assert params.tobytes() == before.tobytes()
    if not options:
        with pytest.raises(error, match=message):
            net.value_and_grad(params, X, y)


def test_smoothing_is_for_cross_entropy():
    net, params, X, y = problem(loss="mse")
    with pytest.raises(ValueError, match=r"label_smoothing is 0\.1, and the loss 'mse'"):
        net.fit(params, X, y, label_smoothing=0.1)
