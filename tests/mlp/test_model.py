"""`MLP`: results and their places, conversions of inputs, initial weights, dropout."""

import itertools
import math

import numpy as np
import pytest
from numba import config

from nagd_numba import MLP, FlatParams, step
from nagd_numba.mlp.activations import ACTIVATIONS
from nagd_numba.mlp.dropout import drop_threshold, layer_key, splitmix
from nagd_numba.mlp.layout import layers, named_shapes, parameter_count

JIT = not config.DISABLE_JIT


def batch(net, rows, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, net.sizes[0])).astype(net.dtype)
    if net.loss_name == "cross_entropy":
        return X, random.integers(0, net.sizes[-1], rows)
    return X, random.integers(0, 2, (rows, net.sizes[-1])).astype(net.dtype)


def test_layout_fills_the_vector_without_gaps():
    sizes = (5, 7, 3, 2)
    ends = [0]
    for layer, (inputs, outputs) in zip(layers(sizes), itertools.pairwise(sizes), strict=True):
        assert layer.weights == ends[-1]
        assert layer.biases == layer.weights + inputs * outputs
        ends.append(layer.biases + outputs)
    assert ends[-1] == parameter_count(sizes) == MLP(sizes).size == 5 * 7 + 7 + 7 * 3 + 3 + 3 * 2 + 2
    assert named_shapes(sizes)[:3] == [("W1", (5, 7)), ("b1", (7,)), ("W2", (7, 3))]


def test_unflatten_gives_views():
    net = MLP((3, 4, 2))
    params = net.init(0)
    views = net.unflatten(params)
    assert isinstance(views, FlatParams)
    assert list(views) == ["W1", "b1", "W2", "b2"]
    views["b2"][1] = 7
    assert params[-1] == 7


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_init(activation):
    net = MLP((200, 300, 100), activation, dtype="float64")
    params = net.init(3)
    assert params.dtype == np.float64
    assert np.array_equal(params, net.init(3))
    assert not np.array_equal(params, net.init(4))
    views = net.unflatten(params)
    assert not views["b1"].any()
    assert not views["b2"].any()
    variance = 2 / 200 if activation == "relu" else 2 / (200 + 300)
    # The variance of a sample variance is below 2/n of its square: 5 deviations.
    assert views["W1"].var() == pytest.approx(variance, rel=5 * math.sqrt(2 / 60_000))
    assert views["W2"].var() == pytest.approx(2 / 400, rel=5 * math.sqrt(2 / 30_000))
    assert MLP((3, 2)).init(0).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward(activation, dtype):
    net = MLP((6, 9, 5, 3), activation, dtype=dtype)
    params = net.init(0)
    params += np.random.default_rng(1).normal(scale=0.3, size=net.size).astype(dtype)
    X, _ = batch(net, 7)
    p = net.unflatten(params.astype(np.float64))
    function = {
        "relu": lambda z: np.maximum(z, 0),
        "tanh": np.tanh,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "identity": lambda z: z,
    }[activation]
    h = function(X.astype(np.float64) @ p["W1"] + p["b1"])
    expected = function(h @ p["W2"] + p["b2"]) @ p["W3"] + p["b3"]
    got = net.forward(params, X)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, atol=3 * 9 * np.finfo(dtype).eps * max(1, np.abs(expected).max()))


def test_predictions_of_classes():
    net = MLP((4, 6, 3), "tanh", dtype="float64")
    params, (X, _) = net.init(0), batch(net, 8)
    z = net.forward(params, X)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(net.predict_proba(params, X), p, rtol=1e-14)
    assert np.array_equal(net.predict(params, X), z.argmax(axis=1))
    assert net.predict(params, X).dtype == np.int64


def test_predictions_of_binary_targets():
    net = MLP((4, 6, 2), "relu", "binary_cross_entropy", dtype="float64")
    params, (X, _) = net.init(0), batch(net, 8)
    z = net.forward(params, X)
    np.testing.assert_allclose(net.predict_proba(params, X), 1 / (1 + np.exp(-z)), rtol=1e-14)
    assert np.array_equal(net.predict(params, X), z > 0)
    assert net.predict(params, X).dtype == np.int64
    assert 0 < net.predict(params, X).sum() < 16


def test_predictions_of_mse():
    net = MLP((4, 2), loss="mse")
    params, (X, _) = net.init(0), batch(net, 3)
    assert np.array_equal(net.predict(params, X), net.forward(params, X))
    with pytest.raises(ValueError, match="loss is 'mse', whose outputs are no probabilities"):
        net.predict_proba(params, X)


@pytest.mark.parametrize("rows", [1, 5])
def test_loss_is_that_of_value_and_grad(rows):
    net = MLP((4, 6, 3), "tanh", l2=0.2)
    params, (X, y) = net.init(0), batch(net, rows)
    value, grads = net.value_and_grad(params, X, y)
    assert type(value) is float
    assert type(net.loss(params, X, y)) is float
    assert net.loss(params, X, y) == value
    assert grads.shape == params.shape


def test_equal_inputs_give_equal_bits():
    net = MLP((20, 33, 10), dropout=0.3, l2=0.01)
    params, (X, y) = net.init(0), batch(net, 17)
    first, grads = net.value_and_grad(params, X, y, dropout_seed=9)
    for _ in range(3):
        again, more = net.value_and_grad(params, X, y, dropout_seed=9)
        assert again == first
        assert more.tobytes() == grads.tobytes()
    other, _ = net.value_and_grad(params, X, y, dropout_seed=10)
    assert other != first


def test_out_is_written_in_place_and_inputs_are_not():
    net = MLP((4, 6, 3), dropout=0.2, l2=0.1)
    params, (X, y) = net.init(0), batch(net, 5)
    before = [x.copy() for x in (params, X, y)]
    out = np.full(net.size, np.nan, np.float32)
    _, grads = net.value_and_grad(params, X, y, out=out, dropout_seed=1)
    assert grads is out
    assert np.array_equal(out, net.value_and_grad(params, X, y, dropout_seed=1)[1])
    net.forward(params, X)
    for old, now in zip(before, (params, X, y), strict=True):
        assert np.array_equal(old, now)


def test_inputs_of_other_kinds_are_converted():
    net = MLP((4, 6, 3))
    params, (X, y) = net.init(0), batch(net, 6)
    X = np.round(4 * X)
    expected = net.value_and_grad(params, X, y)[1]
    wide = np.zeros((12, 8), np.float32)
    wide[::2, ::2] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    fixed = params.copy()
    fixed.flags.writeable = False
    labels = y.copy()
    labels.flags.writeable = False
    for other in (X.astype(np.float64), X.astype(np.int16), X.T.copy().T, wide[::2, ::2], X.tolist(), read_only):
        assert np.array_equal(net.value_and_grad(params, other, y)[1], expected)
    for other in (
        y.astype(np.uint8),
        y.astype(np.int32),
        y.astype(np.uint64),
        y.tolist(),
        np.repeat(y, 2)[::2],
        labels,
    ):
        assert np.array_equal(net.value_and_grad(fixed, X, other)[1], expected)
        assert net.loss(fixed, X, other) == net.loss(params, X, y)


def test_targets_of_one_output_may_be_a_vector():
    for loss in ("mse", "binary_cross_entropy"):
        net = MLP((4, 1), loss=loss)
        params, (X, y) = net.init(0), batch(net, 6)
        expected = net.value_and_grad(params, X, y)
        for other in (y[:, 0], y[:, 0].astype(int), y[:, 0].astype(bool), y.astype(np.float64)):
            value, grads = net.value_and_grad(params, X, other)
            assert value == expected[0]
            assert np.array_equal(grads, expected[1])


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    net = MLP((4, 6, 3))
    params, (X, y) = net.init(0), batch(net, 6)
    value, grads = net.value_and_grad(params, X, y)
    out = torch.zeros(net.size)
    tensors = [torch.from_numpy(x) for x in (params, X, y)]
    tensors[0].requires_grad_()
    got, result = net.value_and_grad(*tensors, out=out)
    assert result is out
    assert got == value
    assert np.array_equal(out.numpy(), grads)
    assert out._version == 1


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
def test_bias_gradients_over_blocks_of_rows(rows):
    """The biases of a linear network with mse: mean(2 (z - y))."""
    net = MLP((2, 3), loss="mse", dtype="float64")
    params, (X, y) = net.init(0), batch(net, rows)
    z = net.forward(params, X)
    gradient = net.unflatten(net.value_and_grad(params, X, y)[1])
    np.testing.assert_allclose(gradient["b1"], (2 * (z - y)).sum(axis=0) / z.size, rtol=1e-12, atol=1e-15)


def test_dropout_of_rate_zero_is_none():
    plain, zero = MLP((5, 8, 3), l2=0.1), MLP((5, 8, 3), l2=0.1, dropout=0.0)
    params, (X, y) = plain.init(0), batch(plain, 6)
    value, grads = plain.value_and_grad(params, X, y)
    other, more = zero.value_and_grad(params, X, y, dropout_seed=5)
    assert other == value
    assert more.tobytes() == grads.tobytes()
    # and the rate has no effect without a seed
    some = MLP((5, 8, 3), l2=0.1, dropout=0.6)
    assert some.value_and_grad(params, X, y)[1].tobytes() == grads.tobytes()
    assert some.loss(params, X, y) == value


def test_dropout_keeps_the_mean():
    """A linear network: the mean over many masks of its output is the output without dropout.

    Outputs are read off the loss of one sample and one output: mse with target 0 is z^2; here only z = sum of the
    hidden units matters, so the units are given by X = 1, W1 = 1, W2 = 1 and z has mean `width`, and variance
    `width rate/(1-rate)`, since each unit is 0 or 1/(1-rate).
    """
    width, rate, trials = 40, 0.3, 400 if JIT else 60
    net = MLP((1, width, 1), "identity", "mse", dropout=rate, dtype="float64")
    params = np.concatenate([np.ones(width), np.zeros(width), np.ones(width), [0.0]])
    X, y = np.ones((1, 1)), np.zeros((1, 1))
    z = np.sqrt([net.value_and_grad(params, X, y, dropout_seed=seed)[0] for seed in range(trials)])
    variance = width * rate / (1 - rate)
    assert abs(z.mean() - width) <= 5 * math.sqrt(variance / trials)
    assert z.var() == pytest.approx(variance, rel=5 * math.sqrt(3 / trials))
    kept = z * (1 - rate)
    np.testing.assert_allclose(kept, kept.round(), atol=1e-9)  # each unit is 0 or 1/(1-rate)


def test_dropout_masks_differ_between_layers_and_neighbouring_seeds():
    n = 4000 if JIT else 500
    threshold = drop_threshold(0.5)
    masks = []
    for seed in (0, 1, 2):
        for layer in (0, 1):
            key = np.uint64(layer_key(np.uint64(seed), layer))
            masks.append(np.array([splitmix(key, i) >= threshold for i in range(n)]))
    for a, b in itertools.combinations(masks, 2):
        assert abs((a == b).mean() - 0.5) <= 5 * 0.5 / math.sqrt(n)  # as of independent coins


def test_splitmix_is_the_published_generator():
    """The first outputs of SplitMix64 from seed 1234567, as in the tests of other implementations."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [int(splitmix(np.uint64(1234567), i)) for i in range(4)] == expected


def test_training_learns_a_function_that_no_linear_model_can():
    random = np.random.default_rng(0)
    X = random.uniform(-1, 1, (60, 2))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    net = MLP((2, 12, 2), "tanh", dropout=0.05, l2=1e-5, dtype="float64")
    params, steps = net.init(1), 400 if JIT else 3
    grads, vel = np.zeros_like(params), np.zeros_like(params)
    first = net.loss(params, X, y)
    for k in range(steps):
        net.value_and_grad(params, X, y, out=grads, dropout_seed=k)
        step(params, grads, vel, lr=0.2, momentum=0.9)
    assert net.loss(params, X, y) < first
    if JIT:
        assert (net.predict(params, X) == y).mean() > 0.95


def test_nan_reaches_the_result():
    """A diverged network is seen, not hidden by an activation."""
    for activation in ACTIVATIONS:
        net = MLP((2, 3, 2), activation)
        params, (X, y) = net.init(0), batch(net, 4)
        params[0] = math.nan
        assert math.isnan(net.loss(params, X, y))


def test_repr():
    net = MLP((2, 3), "tanh", "mse", 0.5, 0.1, "float64")
    assert repr(net) == "MLP([2, 3], activation='tanh', loss='mse', dropout=0.5, l2=0.1, dtype='float64')"
    assert repr(eval(repr(net))) == repr(net)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_nan_has_no_label(loss):
    """The outputs are NaN, as NumPy's would be; a label cannot be."""
    net = MLP([3, 4, 2], loss=loss)
    params, X = net.init(0), np.ones((5, 3), np.float32)
    bad_X, bad_params = X.copy(), params.copy()
    bad_X[3, 1] = bad_params[7] = np.nan
    assert np.isnan(net.forward(params, bad_X)[3]).all()
    assert np.isfinite(np.delete(net.forward(params, bad_X), 3, axis=0)).all()
    assert np.isnan(net.predict_proba(params, bad_X)[3]).all()
    with pytest.raises(ValueError, match=r"^MLP.predict: X is nan in row 3, column 1; finite numbers are needed$"):
        net.predict(params, bad_X)
    with pytest.raises(ValueError, match=r"^MLP.predict: params is nan at index 7; finite numbers are needed$"):
        net.predict(bad_params, X)
    net = MLP([1, 1, 2], activation="identity", loss=loss)
    params = np.array([3e38, 0, 0, 0, 0, 0], np.float32)
    with pytest.raises(
        ValueError, match="the outputs are NaN in row 1, where infinities meet: X or params has too large"
    ):
        net.predict(params, [[1.0], [10.0]])
