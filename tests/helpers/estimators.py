"""Data for the estimators, and both of a kind, ours and scikit-learn's, trained on them; needs scikit-learn."""

import warnings

import numpy as np
from sklearn.base import is_classifier
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import scale

from nagd_numba.adapters.sklearn import NesterovMLPClassifier, NesterovMLPRegressor

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
