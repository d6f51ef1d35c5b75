"""The estimators beside scikit-learn's own: the same course, its estimator checks, and its tests of its own classes."""

import ast
import copy
import importlib.util
import io
import pickle
import subprocess
import sys
import types
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from numba import config

pytest.importorskip("sklearn", "1.7", reason="scikit-learn >= 1.7 is not installed")  # whose fit takes weights
if config.DISABLE_JIT:
    pytest.skip("trains for thousands of steps: too slow without compilation", allow_module_level=True)

from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import check_estimator

from nagd_numba.adapters import perceptron
from nagd_numba.adapters.sklearn import NesterovMLPClassifier, NesterovMLPRegressor
from nagd_numba.mlp.cpu.trainer import Trainer

THEIRS = {NesterovMLPClassifier: MLPClassifier, NesterovMLPRegressor: MLPRegressor}
CLOSE = 1e-8  # relative, over a whole training in float64; 1e-6 is promised
SETTINGS = {
    "hidden_layer_sizes": (12, 6),
    "solver": "sgd",
    "learning_rate_init": 0.05,
    "alpha": 0.01,
    "batch_size": 64,  # no divisor of the numbers of samples
    "max_iter": 60,
    "tol": 0.01,
    "n_iter_no_change": 2,
    "random_state": 3,
}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Kernels for one thread only, which halves the compiling; how many there are has no influence on the bits."""
    monkeypatch.setattr("nagd_numba.kernels.threading_layer.parallel_allowed", lambda: False)


def dataset(name):
    """The class of ours that the data are for, X, and y."""
    if name == "iris":
        X, y = load_iris(return_X_y=True)
        return NesterovMLPClassifier, scale(X), y
    if name == "two classes":
        X, y = load_iris(return_X_y=True)
        return NesterovMLPClassifier, scale(X), np.where(y == 2, 7, 3)
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return NesterovMLPClassifier, X[:500] / 16, y[:500]
    if name == "multilabel":
        X, y = make_multilabel_classification(150, random_state=0)
        return NesterovMLPClassifier, scale(X), y
    X, y = load_diabetes(return_X_y=True)
    X, y = scale(X), scale(y)
    return NesterovMLPRegressor, X, (np.stack([y, X[:, 2] * X[:, 3]], axis=1) if name == "two outputs" else y)


def quietly(call, *arguments, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return call(*arguments, **keywords)


def both(name, weights=False, **settings):
    """Ours and theirs after `fit`, and X and y."""
    ours, X, y = dataset(name)
    sample_weight = np.random.default_rng(1).uniform(0, 2, len(X)) if weights else None
    settings = SETTINGS | settings
    fitted = [quietly(kind(**settings).fit, X, y, sample_weight) for kind in (ours, THEIRS[ours])]
    return *fitted, X, y


def assert_same_course(ours, theirs, X):
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=CLOSE)
    assert ours.loss_ == ours.loss_curve_[-1]
    for name in ("best_loss_", "best_validation_score_", "validation_scores_"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert (mine is None) == (other is None), name
        if other is not None:
            np.testing.assert_allclose(mine, other, rtol=CLOSE, err_msg=name)
    for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(mine, other, rtol=CLOSE, atol=CLOSE)
        assert mine.dtype == other.dtype
    if is_classifier(ours):
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=CLOSE, atol=CLOSE)
        np.testing.assert_allclose(ours.predict_log_proba(X), np.log(ours.predict_proba(X)))
    else:
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=CLOSE, atol=CLOSE)


# The same course.


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


# The interface.


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


# scikit-learn's tests of its own classes, with these in their place.

# Run with solver="sgd" in place of the other solvers that they name, which is not what they are about.
AS_SGD = (
    "test_multilabel_classification",
    "test_sparse_matrices",
    "test_warm_start",
    "test_mlp_warm_start_no_convergence",
    "test_mlp_sample_weight_with_early_stopping",
)
EXCLUDED = {
    "test_gradient": "calls _loss_grad_lbfgs, which is internal; test_mlp_gradients has gradients",
    "test_lbfgs_classification": "is about lbfgs",
    "test_lbfgs_regression": "is about lbfgs",
    "test_lbfgs_classification_maxfun": "is about lbfgs",
    "test_lbfgs_regression_maxfun": "is about lbfgs",
    "test_multioutput_regression": "needs the accuracy of lbfgs in 200 epochs; test_other_outputs has several outputs",
    "test_predict_proba_multilabel": "needs that of lbfgs in 200 epochs",
    "test_predict_proba_binary": "needs that of adam: scikit-learn's own classes fail it with solver='sgd', AUC 0.9856",
    "test_mlp_vs_poisson_glm_equivalent": "is about the Poisson loss, and uses lbfgs",
    "test_partial_fit_errors": "half of it is about lbfgs; test_classes_of_partial_fit and test_refusals have the rest",
}


def own_tests():
    """The test functions of scikit-learn's module, by name, about our classes."""
    found = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    if found is None:  # some distributions leave the tests out
        return {}
    lines = Path(found.origin).read_text().splitlines(keepends=True)
    for node in ast.parse("".join(lines)).body:
        if isinstance(node, ast.FunctionDef) and node.name in AS_SGD:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            for number in range(first - 1, node.end_lineno):
                line = lines[number].replace('["sgd", "adam", "lbfgs"]', '["sgd"]')
                lines[number] = line.replace('"lbfgs"', '"sgd"').replace('"adam"', '"sgd"')
    theirs = "from sklearn.neural_network import MLPClassifier, MLPRegressor\n"
    assert lines.count(theirs) == 1
    lines[lines.index(theirs)] = (
        "from nagd_numba.adapters.sklearn import NesterovMLPClassifier as MLPClassifier\n"
        "from nagd_numba.adapters.sklearn import NesterovMLPRegressor as MLPRegressor\n"
    )
    module = types.ModuleType("sklearn_test_mlp")
    exec(compile("".join(lines), found.origin, "exec"), module.__dict__)
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


OWN = own_tests()
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
globals().update({f"test_own_{name[5:]}": quiet(test) for name, test in OWN.items() if name not in EXCLUDED})


@pytest.mark.skipif(not OWN, reason="scikit-learn is installed without its tests")
def test_the_table_of_excluded_tests_is_right():
    assert set(EXCLUDED) <= set(OWN)
    assert set(AS_SGD) <= set(OWN)
    assert len(OWN) - len(EXCLUDED) > 25
