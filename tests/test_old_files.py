"""Files that earlier versions wrote still load, and mean the same: see `old_files/make.py`."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from nagd_numba import MLP
from nagd_numba.cli.main import main
from nagd_numba.model_file import load_model
from nagd_numba.schedules import Cosine

FOLDER = Path(__file__).with_name("old_files")


@pytest.fixture(scope="module")
def objects():
    pytest.importorskip("sklearn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's about its own version
        return pickle.loads((FOLDER / "objects.pickle").read_bytes())


def test_pickled_networks_histories_and_schedules(objects):
    net, _, _, history, schedule = objects
    assert repr(net) == repr(MLP([3, 4, 2], "tanh", dropout=0.25, l2=0.01, dtype="float64"))
    assert net.size == 26
    assert net.loss_name == "cross_entropy"
    again = pickle.loads(pickle.dumps(net))
    assert again.spec == net.spec
    assert not again.spec.dims.flags.writeable
    assert history.last("loss") == 2.0
    assert schedule == Cosine(0.1, 5)


def test_pickled_estimators_predict_and_train_on(objects):
    _, classifier, regressor, _, _ = objects
    with np.load(FOLDER / "outputs.npz") as known:
        X, y = known["X"], known["y"]
        np.testing.assert_array_equal(classifier.predict_proba(X), known["probabilities"])
        np.testing.assert_array_equal(regressor.predict(X), known["values"])
        classifier.partial_fit(X, y)
        np.testing.assert_array_equal(classifier.predict_proba(X), known["after_another_epoch"])


def test_a_model_and_its_training(tmp_path, capsys):
    model, params, preprocessing = load_model(FOLDER / "model.npz")
    assert model.sizes == (64, 4, 10)
    assert len(preprocessing.classes) == 10
    assert model.predict(params, np.zeros((1, 64), np.float32)).shape == (1,)
    resumed = tmp_path / "resumed.npz"
    assert main(["train", "--resume", str(FOLDER / "model.npz"), "--epochs", "3", "--save", str(resumed)]) == 0
    with np.load(resumed) as ours, np.load(FOLDER / "resumed_params.npz") as known:
        for name in known.files:
            np.testing.assert_array_equal(ours[name.replace("_", "/")], known[name])
