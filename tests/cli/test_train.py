"""The comparison of methods, and the model files."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba import MLP
from nagd_numba.cli.comparison import Comparison, compare
from nagd_numba.cli.config import ACTIVATIONS, LOSSES, PRECISIONS, Config
from nagd_numba.cli.data import Preprocessing, load_digits, split
from nagd_numba.cli.data.samples import checked
from nagd_numba.cli.devices import resolve_device
from nagd_numba.io import npz
from nagd_numba.io.atomic import replacing
from nagd_numba.model_file import load_model, save_model
from tests.helpers.checkpoints import rewrite


def digits(config):
    return split(load_digits(), config.validation, config.seed, config.dtype)


def clusters(config, n=60):
    """Three groups of points that are easy to tell apart."""
    random = np.random.default_rng(0)
    y = np.arange(n) % 3
    X = random.normal(0, 0.3, (n, 2)) + np.array([[0, 0], [3, 0], [0, 3]])[y]
    return split(checked(X, np.array(["a", "b", "c"])[y], "clusters"), config.validation, config.seed, config.dtype)


@pytest.fixture(scope="module")
def defaults():
    config = Config(device="cpu")
    run = Comparison(digits(config), config)
    run.run()
    return run


def test_nag_is_accurate_and_ahead_of_gradient_descent(defaults):
    gd, momentum, nag = defaults.results
    assert [result.method for result in defaults.results] == list(Config.methods)
    assert nag.history[-1].validation_accuracy >= 0.96
    assert nag.history[-1].train_loss < gd.history[-1].train_loss / 2
    assert momentum.history[-1].train_loss < gd.history[-1].train_loss / 2
    assert nag.epochs_to(95) < gd.epochs_to(95)
    assert all(len(result.history) == 20 for result in defaults.results)


def test_nag_is_accurate_for_other_seeds():
    for seed in (1, 2, 3):
        config = Config(seed=seed, methods=("nag",), device="cpu")
        (nag,) = compare(digits(config), config)
        assert nag.history[-1].validation_accuracy >= 0.95


def test_the_same_seed_gives_the_same_bits(defaults):
    again = Comparison(defaults.data, defaults.config)
    again.run()
    assert [result.history for result in again.results] == [result.history for result in defaults.results]
    assert (again.best.method, again.best.epoch) == (defaults.best.method, defaults.best.epoch)
    np.testing.assert_array_equal(again.best.params, defaults.best.params)


def test_methods_share_parameters_batches_and_dropout(defaults):
    first = {result.first_loss for result in defaults.results}
    assert len(first) == 1
    assert math.isfinite(first.pop())
    # A method's course does not depend on which others run, nor on their order.
    config = dataclasses.replace(defaults.config, methods=("nag", "gd"), epochs=3)
    nag, gd = compare(defaults.data, config)
    assert gd.history == defaults.results[0].history[:3]
    assert nag.history == defaults.results[2].history[:3]


def test_without_momentum_all_methods_are_gradient_descent():
    config = Config(momentum=0.0, epochs=2, device="cpu")
    gd, momentum, nag = compare(digits(config), config)
    assert gd.history == momentum.history == nag.history


def test_the_best_model_is_the_best_of_all_epochs(defaults):
    epochs = [epoch for result in defaults.results for epoch in result.history]
    best = max(epochs, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss))
    assert defaults.best.epoch == best
    data = defaults.data
    predicted = defaults.model.predict(defaults.best.params, data.X_validation)
    assert (predicted == data.y_validation).mean() == best.validation_accuracy
    assert defaults.model.loss(defaults.best.params, data.X_validation, data.y_validation) == best.validation_loss


@pytest.mark.parametrize(
    ("loss", "activation"),
    # Each once: every pair would compile for a minute.
    [("cross_entropy", "relu"), ("mse", "tanh"), ("binary_cross_entropy", "sigmoid"), ("cross_entropy", "identity")],
)
def test_every_loss_and_activation_learns(loss, activation):
    config = Config(loss=loss, activation=activation, hidden=(8,), dropout=0.0, epochs=60, validation=0.3, device="cpu")
    for result in compare(clusters(config), config):
        assert result.history[-1].train_loss < result.first_loss
    assert result.best_accuracy > 0.9


@pytest.mark.parametrize("hidden", [(), (4,), (4, 3, 2)])
def test_depths_and_odd_batches(hidden):
    config = Config(hidden=hidden, batch_size=7, epochs=2, dtype="float64", l2=1e-3, device="cpu")
    run = Comparison(clusters(config), config)
    seen = []
    run.run(lambda result, epoch: seen.append((result.method, epoch.number)), lambda result, steps: seen.append(steps))
    assert run.batches == 8
    steps = [entry for entry in seen if isinstance(entry, int)]
    assert steps[-1] == 16
    assert steps.count(8) == steps.count(16) == 3  # at least at the end of each epoch
    assert [entry for entry in seen if isinstance(entry, tuple)] == [(m, e) for m in Config.methods for e in (1, 2)]


def test_a_method_that_diverges_stops():
    config = Config(lr=1e30, epochs=5, methods=("nag",), loss="mse", device="cpu")
    run = Comparison(clusters(config), config)
    (result,) = run.run()
    assert result.diverged
    assert len(result.history) < 5
    assert run.best is None


def test_interrupted_between_batches():
    config = Config(epochs=50, device="cpu")
    run = Comparison(clusters(config), config)

    def on_epoch(result, epoch):
        run.stop = result.method == "momentum" and epoch.number == 3

    with pytest.raises(KeyboardInterrupt):
        run.run(on_epoch)
    assert [len(result.history) for result in run.results] == [50, 3]
    assert run.best is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "--epochs is 0"),
        ({"epochs": 2.5}, "--epochs is 2.5"),
        ({"batch_size": -1}, "--batch-size is -1"),
        ({"hidden": (8, 0)}, "--hidden is 0"),
        ({"lr": 0.0}, "--lr is 0.0"),
        ({"lr": math.nan}, "--lr is nan"),
        ({"lr": "fast"}, "--lr is 'fast'"),
        ({"lr": 1e39}, "--lr is 1e+39; a finite number > 0 and <= 3.4"),
        ({"momentum": 1.0}, "--momentum is 1.0"),
        ({"dropout": 1.0}, "--dropout is 1.0"),
        ({"l2": -0.1}, "--l2 is -0.1"),
        ({"validation": 0.6}, "--validation is 0.6"),
        ({"validation": 0.0}, "--validation is 0.0"),
        ({"target": 101.0}, "--target is 101.0"),
        ({"seed": -1}, "--seed is -1"),
        ({"methods": ()}, "--methods is empty"),
        ({"methods": ("nag", "nag")}, "each method can be there once"),
        ({"methods": ("nags",)}, "did you mean 'nag'"),
        ({"dtype": "float16"}, "--dtype is 'float16'"),
        ({"activation": "gelu"}, "--activation is 'gelu'"),
        ({"loss": "hinge"}, "--loss is 'hinge'"),
        ({"device": "gpu"}, "--device is 'gpu'"),
        ({"precision": "tf16"}, "--precision is 'tf16'"),
        ({"precision": "tf32", "device": "cpu"}, "--precision is tf32, --dtype float32 and --device cpu"),
        ({"precision": "tf32", "dtype": "float64"}, "--precision is tf32, --dtype float64 and --device auto"),
    ],
)
def test_config_errors_name_the_option(change, message):
    with pytest.raises(ValueError, match=r"^--") as error:
        Config(**change)
    assert message in str(error.value)


def test_choices_are_those_of_the_network():
    from nagd_numba.mlp import activations, losses, spec

    assert tuple(activations.ACTIVATIONS) == ACTIVATIONS
    assert losses.NAMES == LOSSES
    assert spec.PRECISIONS == PRECISIONS


def test_auto_is_a_device():
    assert resolve_device("auto") in ("cpu", "cuda")


def test_on_the_device_as_on_the_cpu():
    from nagd_numba.gpu.driver import why_no_cuda

    if why_no_cuda() is not None:
        pytest.skip(why_no_cuda())
    config = Config(methods=("nag",), hidden=(3,), epochs=1, batch_size=8, validation=0.3, device="cuda")
    data = clusters(config, n=18)
    for result, other in zip(
        compare(data, config), compare(data, dataclasses.replace(config, device="cpu")), strict=True
    ):
        np.testing.assert_allclose(result.history[0].train_loss, other.history[0].train_loss, rtol=1e-4)
        assert result.first_loss == pytest.approx(other.first_loss, rel=1e-5)


@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    activation=st.sampled_from(ACTIVATIONS),
    loss=st.sampled_from(LOSSES),
    dtype=st.sampled_from(["float32", "float64"]),
    text=st.booleans(),
    seed=st.integers(0, 100),
)
def test_a_saved_model_comes_back(tmp_path, sizes, activation, loss, dtype, text, seed):
    model = MLP(sizes, activation=activation, loss=loss, dropout=0.25, l2=0.5, dtype=dtype)
    params = model.init(seed)
    classes = np.arange(sizes[-1]) * 10
    meaning = Preprocessing(np.arange(sizes[0]) / 3, np.ones(sizes[0]), classes.astype(str) if text else classes)
    save_model(tmp_path / "model.npz", model, params, meaning, "nag", 7, 0.5)
    other, same, read = load_model(tmp_path / "model.npz")
    assert repr(other) == repr(model)
    assert same.dtype == params.dtype
    np.testing.assert_array_equal(same, params)
    for name in ("mean", "scale", "classes"):
        np.testing.assert_array_equal(getattr(read, name), getattr(meaning, name))
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        assert (str(file["method"]), int(file["epoch"]), float(file["accuracy"])) == ("nag", 7, 0.5)


def small_model(path):
    model = MLP((2, 3, 2))
    save_model(path, model, model.init(0), Preprocessing(np.zeros(2), np.ones(2), np.array(["a", "b"])))
    return path


def test_files_that_are_no_models_are_refused(tmp_path):
    whole = small_model(tmp_path / "model.npz").read_bytes()
    bad = tmp_path / "bad.npz"
    for content in (b"", b"PK", b"something else", whole[:-30], whole[: len(whole) // 2]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.npz: not a model file"):
            load_model(bad)
    np.savez(bad, X=np.zeros(3))
    with pytest.raises(ValueError, match="not a model of nagd-numba"):
        load_model(bad)
    np.savez(bad, params=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="not a model"):
        load_model(bad)
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    "change",
    [
        {"params": np.zeros(3, np.float32)},
        {"params": np.full(17, np.nan, np.float32)},
        {"params": np.zeros(17, np.float16)},
        {"params": np.zeros(17, np.complex64)},
        {"sizes": np.array([2, -3, 2])},
        {"sizes": np.array([2, np.nan, 2])},
        {"sizes": np.array([2, np.inf, 2])},
        {"sizes": np.array([2.0, 3.0, 2.0])},
        {"sizes": np.array([2, 2**62, 2])},
        {"sizes": np.array([2, 2**64 - 1, 2], np.uint64)},
        {"sizes": np.array([2])},
        {"sizes": np.zeros(0, np.int64)},
        {"sizes": np.array([[2, 3, 2]])},
        {"sizes": 2},
        {"sizes": "2-3-2"},
        {"dropout": np.nan},
        {"dropout": np.zeros(1)},
        {"dropout": "half"},
        {"l2": np.inf},
        {"l2": 1j},
        {"activation": 1},
        {"activation": np.array(["relu"])},
        {"loss": np.zeros(0)},
        {"mean": np.array(["a", "b"])},
        {"mean": np.array([0, np.nan])},
        {"mean": np.zeros(2, complex)},
        {"scale": np.array([1.0, 0.0])},
        {"scale": np.array([1.0, np.inf])},
        {"scale": None},
        {"classes": np.zeros(2, complex)},
        {"activation": "gelu"},
        {"mean": np.zeros(5)},
        {"classes": np.array(["a"])},
        {"classes": None},
    ],
)
def test_damaged_models_are_refused(tmp_path, change):
    path = small_model(tmp_path / "bad.npz")
    rewrite(path, **change)
    with pytest.raises(ValueError, match=r"bad\.npz: a damaged model"):
        load_model(path)


def test_arrays_that_were_changed_are_refused(tmp_path):
    path = small_model(tmp_path / "bad.npz")
    with np.load(path) as file:
        content = {**file}
    content["params"][3] += 1
    np.savez(path, **content)
    with pytest.raises(ValueError, match="its arrays are not those that were written"):
        load_model(path)
    np.savez(path, **{name: x for name, x in content.items() if name != npz.DIGEST})
    with pytest.raises(ValueError, match="the digest of its arrays is missing"):
        load_model(path)
    rewrite(path, format="nagd_numba.MLP 3")
    with pytest.raises(ValueError, match=r"its format is 'nagd_numba\.MLP 3'; this version"):
        load_model(path)


def test_a_model_of_the_other_byte_order(tmp_path):
    path = small_model(tmp_path / "model.npz")
    model, params, _ = load_model(path)
    with np.load(path) as file:
        content = {**file}
    np.savez(path, **{name: x.astype(x.dtype.newbyteorder(">")) for name, x in content.items()})
    _, read, preprocessing = load_model(path)
    assert read.dtype == params.dtype
    np.testing.assert_array_equal(read, params)
    assert model.forward(read, preprocessing([[1.0, 2.0]])).shape == (1, 2)


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = small_model(tmp_path / "model.npz")
    before = path.read_bytes()

    def interrupted():
        with replacing(path) as file:
            file.write(b"half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_objects_are_not_saved(tmp_path):
    model = MLP((1, 2))
    meaning = Preprocessing(np.zeros(1), np.ones(1), np.array(["a", None]))
    with pytest.raises(TypeError, match="classes holds Python objects"):
        save_model(tmp_path / "model.npz", model, model.init(0), meaning)
    assert not list(tmp_path.iterdir())
