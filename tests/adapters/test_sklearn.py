"""The estimators beside scikit-learn's own: the same course."""

import io
import warnings
from contextlib import redirect_stdout

import numpy as np
import pytest
from numba import config

pytest.importorskip("sklearn", "1.7", reason="scikit-learn >= 1.7 is not installed")  # whose fit takes weights
if config.DISABLE_JIT:
    pytest.skip("trains for thousands of steps: too slow without compilation", allow_module_level=True)

from sklearn.base import is_classifier
from sklearn.neural_network import MLPRegressor

from nagd_numba.adapters.sklearn import NesterovMLPRegressor
from tests.helpers.estimators import CLOSE, SETTINGS, THEIRS, assert_same_course, both, dataset, quietly


@pytest.mark.parametrize("momentum", ["nesterov", "heavy ball", "none"])
@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
@pytest.mark.parametrize("data", ["iris", "digits", "diabetes"])
def test_the_course_is_scikit_learns(data, learning_rate, momentum):
    size, nesterov = {"nesterov": (0.9, True), "heavy ball": (0.9, False), "none": (0.0, True)}[momentum]
    ours, theirs, X, _ = both(data, learning_rate=learning_rate, momentum=size, nesterovs_momentum=nesterov)
    assert_same_course(ours, theirs, X)
    assert ours.n_iter_ > 3
    assert ours._optimizer.learning_rate == pytest.approx(theirs._optimizer.learning_rate, rel=1e-15)
    if learning_rate == "invscaling" or (learning_rate == "adaptive" and momentum == "nesterov"):
        assert ours._optimizer.learning_rate < SETTINGS["learning_rate_init"]


@pytest.mark.parametrize("data", ["two classes", "multilabel", "two outputs"])
@pytest.mark.parametrize("weights", [False, True], ids=["unweighted", "weighted"])
def test_other_outputs(data, weights):
    ours, theirs, X, _ = both(data, weights)
    assert_same_course(ours, theirs, X)


@pytest.mark.parametrize("data", ["iris", "diabetes"])
def test_weights_of_samples(data):
    ours, theirs, X, _ = both(data, weights=True)
    assert_same_course(ours, theirs, X)
    unweighted = both(data)[0]
    assert abs(unweighted.loss_curve_[0] / ours.loss_curve_[0] - 1) > 1e-4


@pytest.mark.parametrize(("activation", "data"), [("logistic", "two classes"), ("identity", "diabetes")])
def test_activations(activation, data):
    ours, theirs, X, _ = both(data, activation=activation)
    assert_same_course(ours, theirs, X)


@pytest.mark.parametrize("activation", ["tanh", "logistic", "identity"])
def test_activations_of_predictions(activation):
    ours, theirs, X, _ = both("diabetes", max_iter=2)
    before = ours.predict(X)
    for model in (ours, theirs):
        model.set_params(activation=activation)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=CLOSE, atol=CLOSE)
    assert not np.allclose(ours.predict(X), before, rtol=0.1)


@pytest.mark.parametrize("hidden", [(), 7, [5]], ids=str)
def test_shapes_of_networks(hidden):
    ours, theirs, X, _ = both("iris", hidden_layer_sizes=hidden, batch_size="auto", shuffle=False)
    assert_same_course(ours, theirs, X)


@pytest.mark.parametrize("data", ["iris", "two classes", "multilabel", "diabetes", "two outputs"])
@pytest.mark.parametrize("weights", [False, True], ids=["unweighted", "weighted"])
def test_early_stopping(data, weights):
    ours, theirs, X, _ = both(data, weights, early_stopping=True, tol=1e-4, n_iter_no_change=4, validation_fraction=0.2)
    assert_same_course(ours, theirs, X)
    assert len(ours.validation_scores_) == ours.n_iter_
    best = ours.best_validation_score_
    assert best == max(ours.validation_scores_)


def test_scores_of_constant_targets():
    """R^2 of an output that does not vary is 1 or 0, as scikit-learn has it."""
    X = np.random.default_rng(0).normal(size=(60, 2))
    y = np.stack([np.zeros(60), X[:, 0]], axis=1)
    settings = SETTINGS | {"early_stopping": True, "batch_size": 32}
    fitted = [quietly(kind(**settings).fit, X, y) for kind in (NesterovMLPRegressor, MLPRegressor)]
    assert_same_course(*fitted, X)


@pytest.mark.parametrize("data", ["iris", "multilabel", "diabetes"])
def test_partial_fit_goes_on(data):
    ours, X, y = dataset(data)
    classes = {"classes": np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)} if is_classifier(ours()) else {}
    fitted = []
    for kind in (ours, THEIRS[ours]):
        model = kind(**SETTINGS | {"learning_rate": "invscaling"})
        for epoch in range(6):
            rows = slice(None) if epoch < 4 else slice(0, 40)  # 40: batches are clipped
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*clipped")
                model.partial_fit(X[rows], y[rows], **(classes if epoch == 0 else {}))
        fitted.append(model)
    assert_same_course(*fitted, X)
    assert len(fitted[0].loss_curve_) == 6
    assert fitted[0].n_iter_ == 1


@pytest.mark.parametrize("data", ["two classes", "diabetes"])
def test_warm_start(data):
    ours, X, y = dataset(data)
    fitted = []
    for kind in (ours, THEIRS[ours]):
        model = quietly(kind(**SETTINGS | {"warm_start": True, "max_iter": 7, "tol": 0.0}).fit, X, y)
        fitted.append(quietly(model.fit, X, y))
    assert_same_course(*fitted, X)
    assert len(fitted[0].loss_curve_) == 14


def test_random_state_may_be_a_generator():
    ours, X, y = dataset("iris")
    kinds = ours, THEIRS[ours]
    fitted = [quietly(kind(**SETTINGS | {"random_state": np.random.RandomState(5)}).fit, X, y) for kind in kinds]
    assert_same_course(*fitted, X)
    assert fitted[0].random_state.randint(1 << 30) == fitted[1].random_state.randint(1 << 30)


def test_what_is_printed():
    printed = []
    ours, X, y = dataset("iris")
    for kind in (ours, THEIRS[ours]):
        out = io.StringIO()
        with redirect_stdout(out):
            for more in ({"learning_rate": "adaptive"}, {"early_stopping": True}):
                quietly(kind(**SETTINGS | {"verbose": True} | more).fit, X, y)
        printed.append(out.getvalue())
    assert "Setting learning rate" in printed[0]
    assert "Validation score" in printed[0]
    assert printed[0] == printed[1]


@pytest.mark.parametrize("data", ["iris", "multilabel", "diabetes"])
def test_float32(data):
    ours, X, y = dataset(data)
    X = X.astype(np.float32)
    mine, other = (quietly(kind(**SETTINGS).fit, X, y) for kind in (ours, THEIRS[ours]))
    assert all(x.dtype == np.float32 for x in mine.coefs_ + mine.intercepts_)
    assert (mine.predict_proba(X) if is_classifier(mine) else mine.predict(X)).dtype == np.float32
    np.testing.assert_allclose(mine.loss_curve_[:5], other.loss_curve_[:5], rtol=1e-4)
