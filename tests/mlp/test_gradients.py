"""The gradient against central differences, against an independent NumPy network, and against PyTorch."""

import itertools

import numpy as np
import pytest
from numba import config

from nagd_numba import MLP

JIT = not config.DISABLE_JIT
ACTIVATIONS = ("relu", "tanh", "sigmoid", "identity")
LOSSES = ("cross_entropy", "mse", "binary_cross_entropy")
GOLDEN, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def targets(loss, rows, outputs, random):
    if loss == "cross_entropy":
        return random.integers(0, outputs, rows)
    if loss == "mse":
        return random.normal(size=(rows, outputs))
    return random.integers(0, 2, (rows, outputs)).astype(float)


def problem(sizes, rows, activation, loss, seed=0, **options):
    """A network, parameters with nonzero biases, and a batch."""
    random = np.random.default_rng(seed)
    net = MLP(sizes, activation, loss, **{"dtype": "float64", **options})
    params = random.normal(scale=0.7, size=net.size).astype(net.dtype)
    X = random.normal(size=(rows, sizes[0])).astype(net.dtype)
    return net, params, X, targets(loss, rows, sizes[-1], random)


def mix(word):
    """SplitMix64's finaliser, as published."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def kept(seed, layer, shape, rate):
    """The documented dropout mask."""
    key = mix((mix((seed + GOLDEN) & MASK) + (layer + 1) * GOLDEN) & MASK)
    outputs = [mix((key + (i + 1) * GOLDEN) & MASK) for i in range(shape[0] * shape[1])]
    return np.array([u >= int(rate * 2.0**64) for u in outputs]).reshape(shape)


def reference_loss(net, params, X, y, seed=None):
    """The definition of the loss, in plain NumPy and float64."""
    p = net.unflatten(params.astype(np.float64))
    h = X.astype(np.float64)
    depth = len(net.sizes) - 1
    for layer in range(1, depth + 1):
        z = h @ p[f"W{layer}"] + p[f"b{layer}"]
        h = {"relu": np.maximum(z, 0), "tanh": np.tanh(z), "sigmoid": 1 / (1 + np.exp(-z)), "identity": z}[
            net.activation
        ]
        if seed is not None and net.dropout > 0 and layer < depth:
            h = np.where(kept(seed, layer - 1, z.shape, net.dropout), h / (1 - net.dropout), 0)
    if net.loss_name == "cross_entropy":
        loss = np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), y])
    elif net.loss_name == "mse":
        loss = np.mean((z - y) ** 2)
    else:
        loss = np.mean(np.log1p(np.exp(z)) - y * z)
    return loss + net.l2 / 2 * sum((p[f"W{layer}"] ** 2).sum() for layer in range(1, depth + 1))


def central_differences(function, params, step=1e-5):
    slopes = np.empty_like(params)
    for i in range(params.size):
        up, down = params.copy(), params.copy()
        up[i] += step
        down[i] -= step
        slopes[i] = (function(up) - function(down)) / (2 * step)
    return slopes


# Central differences with h = 1e-5 in float64 are off by h^2 f'''/6, about 1e-10 here, and eps f/h, about 1e-10.
DIFFERENCE_ERROR = 1e-8


@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)], ids=len)
@pytest.mark.parametrize(("activation", "loss"), list(itertools.product(ACTIVATIONS, LOSSES)))
def test_against_differences_of_the_definition(activation, loss, hidden):
    net, params, X, y = problem((3, *hidden, 3), 5, activation, loss, l2=0.03)
    value, grads = net.value_and_grad(params, X, y)
    assert value == pytest.approx(reference_loss(net, params, X, y), rel=1e-13)
    expected = central_differences(lambda p: reference_loss(net, p, X, y), params)
    np.testing.assert_allclose(grads, expected, atol=DIFFERENCE_ERROR)


@pytest.mark.parametrize(
    ("activation", "loss", "hidden"),
    [
        ("relu", "cross_entropy", (4, 3)),
        ("tanh", "mse", (5, 4)),
        ("sigmoid", "binary_cross_entropy", (6,)),
        ("identity", "mse", (4,)),
    ],
)
def test_dropout_against_differences_of_the_definition(activation, loss, hidden):
    net, params, X, y = problem((3, *hidden, 2), 5, activation, loss, l2=0.1, dropout=0.4)
    seed = 2**64 - 3
    value, grads = net.value_and_grad(params, X, y, dropout_seed=seed)
    assert value == pytest.approx(reference_loss(net, params, X, y, seed), rel=1e-13)
    assert value != pytest.approx(reference_loss(net, params, X, y), rel=1e-6)  # something was dropped
    expected = central_differences(lambda p: reference_loss(net, p, X, y, seed), params)
    np.testing.assert_allclose(grads, expected, atol=DIFFERENCE_ERROR)


@pytest.mark.parametrize(("activation", "loss"), list(itertools.product(ACTIVATIONS, LOSSES)))
def test_against_torch(activation, loss):
    torch = pytest.importorskip("torch")
    net, params, X, y = problem((6, 7, 5, 4), 11, activation, loss, l2=0.05)
    functions = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "identity": lambda z: z}
    losses = {
        "cross_entropy": torch.nn.functional.cross_entropy,
        "mse": torch.nn.functional.mse_loss,
        "binary_cross_entropy": torch.nn.functional.binary_cross_entropy_with_logits,
    }
    p = torch.tensor(params, requires_grad=True)
    h, start, squares = torch.tensor(X), 0, 0.0
    for inputs, outputs in itertools.pairwise(net.sizes):
        W = p[start : start + inputs * outputs].reshape(inputs, outputs)
        start += (inputs + 1) * outputs
        z = h @ W + p[start - outputs : start]
        h = functions[activation](z)
        squares = squares + (W**2).sum()
    expected = losses[loss](z, torch.tensor(y)) + net.l2 / 2 * squares
    expected.backward()
    value, grads = net.value_and_grad(params, X, y)
    # Both sum some tens of terms of size about 1 in float64.
    assert value == pytest.approx(expected.item(), rel=1e-13)
    np.testing.assert_allclose(grads, p.grad.numpy(), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_float32_is_close_to_float64(loss):
    """The relative error of a product of K terms is at most about K eps; here K <= 16 and four products follow."""
    net, params, X, y = problem((16, 12, 3), 9, "tanh", loss, l2=0.01, dropout=0.25)
    single = MLP(net.sizes, "tanh", loss, dropout=0.25, l2=0.01, dtype="float32")
    params, X = params.astype(np.float32), X.astype(np.float32)
    if loss != "cross_entropy":
        y = y.astype(np.float32)
    value, grads = net.value_and_grad(params.astype(np.float64), X, y, dropout_seed=4)
    value32, grads32 = single.value_and_grad(params, X, y, dropout_seed=4)
    bound = 4 * 16 * float(np.finfo(np.float32).eps)
    assert grads32.dtype == np.float32
    assert abs(value32 - value) <= bound * max(1, value)
    assert np.abs(grads32 - grads).max() <= bound * max(1, np.abs(grads).max())


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_of_ten_thousand(loss, dtype):
    """No hidden layer, weights 1: the logits are the inputs."""
    net = MLP((2, 2), loss=loss, dtype=dtype)
    params = np.array([1, 0, 0, 1, 0, 0], dtype)
    X = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]], dtype)
    y = np.array([1, 1, 0]) if loss == "cross_entropy" else np.array([[0, 1], [0, 1], [1, 0]], dtype)
    value, grads = net.value_and_grad(params, X, y)
    rounding = float(np.finfo(dtype).eps)
    if loss == "cross_entropy":
        slopes = np.array([[1, -1], [0, 0], [-0.5, 0.5]]) / 3
        expected = (2e4 + 0 + np.log(2)) / 3
    else:
        slopes = np.array([[1, -1], [0, 0], [0, 1]]) / 6
        expected = (2e4 + 0 + 1e4) / 6
    assert value == pytest.approx(expected, rel=4 * rounding)
    gradient = net.unflatten(grads)
    np.testing.assert_allclose(gradient["W1"], X.T.astype(float) @ slopes, rtol=8 * rounding, atol=8e4 * rounding)
    np.testing.assert_allclose(gradient["b1"], slopes.sum(axis=0), rtol=8 * rounding, atol=8 * rounding)


def test_permuting_hidden_units_permutes_the_gradient():
    net, params, X, y = problem((4, 6, 3), 7, "tanh", "cross_entropy", l2=0.1)
    order = np.random.default_rng(1).permutation(6)

    def permuted(vector):
        old, new = net.unflatten(vector), net.unflatten(np.zeros_like(vector))
        new["W1"][...], new["b1"][...] = old["W1"][:, order], old["b1"][order]
        new["W2"][...], new["b2"][...] = old["W2"][order], old["b2"]
        return new.flat

    value, grads = net.value_and_grad(params, X, y)
    other_value, other_grads = net.value_and_grad(permuted(params), X, y)
    assert other_value == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(other_grads, permuted(grads), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("loss", LOSSES)
def test_twice_the_data_is_the_same_mean(loss):
    net, params, X, y = problem((4, 5, 3), 70, "relu", loss)
    value, grads = net.value_and_grad(params, X, y)
    twice_value, twice_grads = net.value_and_grad(params, np.concatenate([X, X]), np.concatenate([y, y]))
    assert twice_value == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(twice_grads, grads, rtol=1e-11, atol=1e-15)


def test_the_gradient_is_the_mean_over_samples():
    """Batches of 1 against one batch: rows do not mix."""
    net, params, X, y = problem((4, 5, 3), 6, "sigmoid", "cross_entropy")
    whole = net.value_and_grad(params, X, y)
    parts = [net.value_and_grad(params, X[i : i + 1], y[i : i + 1]) for i in range(6)]
    assert np.mean([value for value, _ in parts]) == pytest.approx(whole[0], rel=1e-14)
    np.testing.assert_allclose(np.mean([grads for _, grads in parts], axis=0), whole[1], rtol=1e-12, atol=1e-15)


def test_one_hot_is_implied_by_labels():
    net, params, X, _ = problem((4, 5, 3), 6, "tanh", "mse")
    labels = np.array([0, 2, 1, 1, 0, 2])
    value, grads = net.value_and_grad(params, X, labels)
    expected_value, expected = net.value_and_grad(params, X, np.eye(3)[labels])
    assert value == expected_value
    assert np.array_equal(grads, expected)
