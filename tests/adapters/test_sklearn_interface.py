"""The estimators' interface: scikit-learn's checks, parameters, copies, refusals, interrupts, sparse data."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from numba import config

pytest.importorskip("sklearn", "1.7", reason="scikit-learn >= 1.7 is not installed")  # whose fit takes weights
if config.DISABLE_JIT:
    pytest.skip("trains for thousands of steps: too slow without compilation", allow_module_level=True)

from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.estimator_checks import check_estimator

from nagd_numba.adapters import perceptron
from nagd_numba.adapters.sklearn import NesterovMLPClassifier, NesterovMLPRegressor
from nagd_numba.mlp.cpu.trainer import Trainer
from tests.helpers.estimators import CLOSE, SETTINGS, THEIRS, assert_same_course, both, dataset, quietly


@pytest.mark.parametrize("kind", THEIRS, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore")
def test_estimator_checks(kind):
    found = check_estimator(kind(max_iter=100), on_skip=None, on_fail=None)
    failed = [(check["check_name"], check["exception"]) for check in found if check["status"] == "failed"]
    assert not failed
    assert sum(check["status"] == "passed" for check in found) > 50


def test_selection_in_a_pipeline():
    _, X, y = dataset("iris")
    model = make_pipeline(StandardScaler(), NesterovMLPClassifier((5,), max_iter=20, random_state=0))
    grid = {"nesterovmlpclassifier__learning_rate_init": [1e-4, 0.1]}
    search = quietly(GridSearchCV(model.set_output(transform="default"), grid, cv=2, n_jobs=2).fit, X, y)
    assert search.best_params_ == {"nesterovmlpclassifier__learning_rate_init": 0.1}
    assert search.score(X, y) > 0.9


@pytest.mark.parametrize("kind", THEIRS, ids=lambda kind: kind.__name__)
def test_parameters_are_scikit_learns(kind):
    ours, theirs = kind().get_params(), THEIRS[kind](solver="sgd").get_params()
    other_solvers = {"beta_1", "beta_2", "epsilon", "max_fun"}
    assert ours.pop("class_weight", None) is None  # which scikit-learn's other classifiers have
    assert ours.pop("average") is False  # which its SGDClassifier has
    assert ours.items() == {name: value for name, value in theirs.items() if name not in other_solvers}.items()
    assert clone(kind(alpha=0.5)).alpha == 0.5


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_copy_goes_on_alike(copied):
    ours, X, y = dataset("iris")
    model = quietly(ours(**SETTINGS).fit, X, y)
    other = copied(model)
    assert np.array_equal(model.predict_proba(X), other.predict_proba(X))
    for _ in range(2):
        model.partial_fit(X, y)
        other.partial_fit(X, y)
    assert np.array_equal(model.coefs_[0], other.coefs_[0])
    assert not np.shares_memory(model.coefs_[0], other.coefs_[0])


def test_parameters_lie_in_one_vector():
    model = both("iris")[0]
    sizes, flat = perceptron.packed(model.coefs_, model.intercepts_)
    assert sizes == (4, 12, 6, 3)
    assert all(np.shares_memory(x, flat) for x in model.coefs_ + model.intercepts_)
    assert model.coefs_[1] is not None
    assert np.array_equal(flat[: 4 * 12].reshape(4, 12), model.coefs_[0])
    kept = model.coefs_[0]
    before = kept.copy()
    model.partial_fit(*dataset("iris")[1:])
    assert not np.array_equal(kept, before)  # trained in place


@pytest.mark.parametrize("how", ["in place", "an item", "the lists"])
def test_parameters_may_be_assigned(how):
    model, other, X, y = both("iris", max_iter=3)
    for kind in (model, other):
        if how == "in place":
            kind.coefs_[0][...] = 0.25
        elif how == "an item":
            kind.coefs_[0] = np.full((4, 12), 0.25)
        else:
            kind.coefs_ = [np.full((4, 12), 0.25), *(np.asfortranarray(x) for x in kind.coefs_[1:])]
            kind.intercepts_ = [x.copy() for x in kind.intercepts_]
        kind.set_params(warm_start=True)
    np.testing.assert_allclose(model.predict_proba(X), other.predict_proba(X), rtol=CLOSE)
    for kind in (model, other):
        quietly(kind.fit, X, y)
    assert_same_course(model, other, X)


def test_parameters_that_do_not_fit_are_refused():
    model, _, X, y = both("iris", max_iter=2)
    good = model.coefs_[0]
    model.coefs_[0] = np.zeros((4, 5))
    with pytest.raises(ValueError, match=r"coefs_ have the shapes \[\(4, 5\), \(12, 6\), \(6, 3\)\]"):
        model.predict(X)
    model.coefs_[0] = good
    model.set_params(warm_start=True, hidden_layer_sizes=(12, 7))
    with pytest.raises(ValueError, match=r"sizes \(4, 12, 6, 3\).*warm_start=False"):
        model.fit(X, y)


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (
            NesterovMLPClassifier,
            {"solver": "adam"},
            "solver is 'adam'; only 'sgd'.*sklearn.neural_network.MLPClassifier",
        ),
        (
            NesterovMLPRegressor,
            {"solver": "lbfgs"},
            "solver is 'lbfgs'; only 'sgd'.*sklearn.neural_network.MLPRegressor",
        ),
        (NesterovMLPRegressor, {"loss": "poisson"}, "loss is 'poisson'; only 'squared_error'.*MLPRegressor"),
        (NesterovMLPClassifier, {"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes is .3, 0."),
        (NesterovMLPClassifier, {"momentum": 1.5}, "momentum.*1.5"),
        (NesterovMLPClassifier, {"activation": "sigmoid"}, "activation.*logistic.*'sigmoid'"),
    ],
    ids=str,
)
def test_refusals(kind, wrong, message):
    X, y = [[0.0], [1.0]], [0, 1]
    with pytest.raises(ValueError, match=message):
        kind(**wrong).fit(X, y)
    with pytest.raises(ValueError, match=message):
        kind(**wrong).partial_fit(X, y, **({"classes": y} if is_classifier(kind()) else {}))


def test_classes_of_partial_fit():
    X, y = [[0.0], [1.0]], [0, 1]
    with pytest.raises(ValueError, match="classes is missing"):
        NesterovMLPClassifier().partial_fit(X, y)
    model = NesterovMLPClassifier().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes is"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"not in `self\.classes_`"):
        model.partial_fit(X, [0, 7])


def test_warnings_name_the_callers_line():
    _, X, y = dataset("iris")
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\)") as caught:
        NesterovMLPClassifier((3,), max_iter=2).fit(X, y)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="batch_size is 999 and there are 150") as caught:
        NesterovMLPClassifier((3,), batch_size=999).partial_fit(X, y, classes=[0, 1, 2])
    assert caught[0].filename == __file__


def test_an_interrupt_ends_the_training(monkeypatch):
    epoch, calls = Trainer.epoch, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return epoch(self, *arguments)

    monkeypatch.setattr(Trainer, "epoch", interrupted)
    ours, X, y = dataset("iris")
    with pytest.warns(UserWarning, match="interrupted by user, in epoch 4"):
        model = ours(**SETTINGS).fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) == 3
    assert model.predict(X).shape == (150,)


def test_the_best_parameters_survive_a_warm_start():
    ours, X, y = dataset("iris")
    settings = SETTINGS | {"early_stopping": True, "warm_start": True, "n_iter_no_change": 5}
    model = quietly(ours(**settings).fit, X, y)
    best, score = [x.copy() for x in model.coefs_], model.best_validation_score_
    model.set_params(learning_rate_init=1e-9, max_iter=3)  # no epoch can be better
    quietly(model.fit, X, y)
    assert model.best_validation_score_ == score
    assert all(map(np.array_equal, model.coefs_, best))


def test_watching_may_change_in_a_warm_start():
    ours, X, y = dataset("iris")
    model = quietly(ours(**SETTINGS | {"warm_start": True}).fit, X, y)
    quietly(model.set_params(early_stopping=True).fit, X, y)
    assert len(model.validation_scores_) == model.n_iter_
    quietly(model.set_params(early_stopping=False).fit, X, y)
    assert model.best_loss_ < np.inf


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csr_array, sparse.csc_array])
def test_sparse(form, monkeypatch):
    ours, X, y = dataset("digits")
    dense, other = (quietly(ours(**SETTINGS | {"max_iter": 3}).fit, x, y) for x in (X, form(X)))
    assert dense.loss_curve_ == other.loss_curve_
    monkeypatch.setattr(perceptron, "SPARSE_BLOCK", 64 * 7)
    assert np.array_equal(dense.predict_proba(X), other.predict_proba(form(X)))


@pytest.mark.parametrize("class_weight", ["balanced", {"b": 3}, {"a": 0.5, "b": 2, "c": 0}])
@pytest.mark.parametrize("weighted", [False, True])
def test_class_weights_are_weights_of_samples(class_weight, weighted):
    """With scikit-learn's meaning of them, and labels that are text; the same course as with `sample_weight`."""
    _, X, y = dataset("iris")
    y = np.array(["a", "b", "c"])[np.where(y == 0, 0, np.arange(150) % 7 == 0) + (y == 2)]
    own = np.random.default_rng(0).random(150) if weighted else None
    classes = np.unique(y)
    each = compute_class_weight(class_weight, classes=classes, y=y, sample_weight=own)
    weights = each[np.searchsorted(classes, y)] * (1 if own is None else own)
    settings = SETTINGS | {"max_iter": 3}
    got = quietly(NesterovMLPClassifier(**settings, class_weight=class_weight).fit, X, y, own)
    expected = quietly(NesterovMLPClassifier(**settings).fit, X, y, weights)
    np.testing.assert_allclose(got.loss_curve_, expected.loss_curve_, rtol=1e-13)
    assert got.loss_curve_ != quietly(NesterovMLPClassifier(**settings).fit, X, y, own).loss_curve_


def test_class_weights_that_are_refused():
    _, X, y = dataset("iris")
    with pytest.raises(ValueError, match="class_weight is 'balanced', and partial_fit knows only some of the samples"):
        NesterovMLPClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="class_weight is given, and y is multilabel"):
        NesterovMLPClassifier(class_weight={1: 2}).fit(X, np.eye(3, dtype=int)[y] | np.eye(3, dtype=int)[0])
    with pytest.raises(ValueError, match="The 'class_weight' parameter"):
        NesterovMLPClassifier(class_weight="even").fit(X, y)


def test_boolean_labels():
    _, X, y = dataset("iris")
    got, expected = (
        quietly(NesterovMLPClassifier(**SETTINGS | {"max_iter": 2}).fit, X, t) for t in (y > 0, y.clip(0, 1))
    )
    assert got.loss_curve_ == expected.loss_curve_
    assert got.classes_.dtype == got.predict(X).dtype == bool


def test_bytes_are_numbers():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300].astype(np.uint8), y[:300]
    model, theirs = (
        quietly(kind(**SETTINGS | {"max_iter": 3}).fit, X, y) for kind in (NesterovMLPClassifier, MLPClassifier)
    )
    assert_same_course(model, theirs, X)
    assert np.array_equal(model.predict_proba(X), model.predict_proba(X.astype(np.float64)))


def test_a_batch_without_weight_is_passed_over():
    _, X, y = dataset("iris")
    weights = np.r_[np.zeros(50), np.ones(100)]
    settings = SETTINGS | {"shuffle": False, "batch_size": 50, "max_iter": 4, "tol": 0.0}
    ours = quietly(NesterovMLPClassifier(**settings).partial_fit, X, y, weights, classes=[0, 1, 2])
    theirs = quietly(MLPClassifier(**settings).partial_fit, X[50:], y[50:], classes=[0, 1, 2])
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=CLOSE)


def test_without_scikit_learn():
    code = """
import sys
import nagd_numba, nagd_numba.adapters
assert "sklearn" not in sys.modules
sys.modules["sklearn"] = None
try:
    import nagd_numba.adapters.sklearn
except ImportError as error:
    assert "pip install scikit-learn" in str(error), error
else:
    raise AssertionError("imported")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_not_finite_is_named():
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(30, 4)).astype(np.float32), rng.integers(0, 3, 30)
    model = NesterovMLPClassifier((5,), max_iter=1, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, labels)
    model.coefs_[0][1, 2] = np.nan
    said = r"the vector of coefs_ and intercepts_ is nan at index 7; finite numbers are needed"
    with pytest.raises(ValueError, match=f"^NesterovMLPClassifier.predict: {said}"):
        model.predict(X)
    with pytest.raises(ValueError, match=f"^NesterovMLPClassifier.partial_fit: {said}"):
        model.partial_fit(X, labels)
    with pytest.raises(ValueError, match=f"^NesterovMLPClassifier.fit: {said}"):
        model.set_params(warm_start=True).fit(X, labels)
    y = X[:, 0].astype(float)
    y[3] = 1e100  # sklearn's checks have not heard of float32
    with pytest.raises(
        ValueError, match=r"NesterovMLPRegressor.fit: y is 1e\+100 in row 3, column 0; .*\(in float32\)"
    ):
        NesterovMLPRegressor(max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match=r"fit: sample_weight is 1e\+100 in row 3; .*\(in float32\)"):
        NesterovMLPClassifier(max_iter=1).fit(X, labels, np.where(y == 1e100, 1e100, 1.0))


def test_weights_are_no_data():
    """X in the memory of `coefs_` would change as it is trained on."""
    model = NesterovMLPRegressor(hidden_layer_sizes=(4,), max_iter=1, warm_start=True, random_state=0)
    X = np.random.default_rng(0).normal(size=(8, 4))
    with pytest.warns(ConvergenceWarning):
        model.fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"NesterovMLPRegressor.fit: coefs_ and X overlap in memory; .*X\.copy\(\)"):
        model.fit(model.coefs_[0], X[:4, 0])
