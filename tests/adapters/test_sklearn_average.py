"""Estimators whose parameters are averages of those after each batch."""

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import is_classifier

from nagd_numba.adapters.sklearn import NesterovMLPClassifier
from tests.helpers.bits import assert_same_bits
from tests.helpers.estimators import CLOSE, SETTINGS, THEIRS, dataset, quietly


def vector(model):
    return np.concatenate([x.ravel() for x in (*model.coefs_, *model.intercepts_)])


def courses(data, steps, weights=None, **settings):
    """The parameters of ours and of scikit-learn's after each of so many updates with all samples."""
    ours, X, y = dataset(data)
    classes = {"classes": np.unique(y)} if is_classifier(ours()) else {}
    given = {**SETTINGS, "batch_size": len(X), "shuffle": False}
    both = ours(**given, **settings), THEIRS[ours](**given)
    seen = ([], [])
    for k in range(steps):
        for model, course in zip(both, seen, strict=True):
            own = {} if weights is None else {"sample_weight": weights}
            model.partial_fit(X, y, **(classes if k == 0 else {}), **own)
            course.append(vector(model))
    return *map(np.array, seen), both


@pytest.mark.parametrize("data", ["iris", "diabetes"])
def test_the_mean_is_that_of_scikit_learns_parameters(data):
    ours, theirs, _ = courses(data, 30, average=True)
    means = np.cumsum(theirs, axis=0) / np.arange(1, 31)[:, None]
    np.testing.assert_allclose(ours, means, rtol=CLOSE, atol=CLOSE * abs(means).max())


def test_an_exponential_average_has_no_bias():
    decay = 0.8
    ours, theirs, _ = courses("iris", 20, average=decay)
    for k in range(1, 21):
        weights = decay ** np.arange(k)[::-1]
        expected = weights @ theirs[:k] / weights.sum()
        np.testing.assert_allclose(ours[k - 1], expected, rtol=CLOSE, atol=CLOSE * abs(expected).max())


def test_weights_of_samples():
    weights = np.random.default_rng(0).uniform(0, 2, 150)
    weighted, _, _ = courses("iris", 5, weights, average=True)
    raw, _, _ = courses("iris", 5, weights)
    np.testing.assert_allclose(weighted[-1], raw.mean(axis=0), rtol=1e-14, atol=1e-14)


def test_a_decay_of_zero_is_the_training_without_an_average():
    averaged, plain = (courses("iris", 5, average=x)[0] for x in (0.0, False))
    assert_same_bits([averaged], [plain])


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_copy_goes_on_alike(copied):
    _, _, (model, _) = courses("iris", 4, average=True)
    _, X, y = dataset("iris")
    other = copied(model)
    for one in (model, other):
        one.partial_fit(X, y)
    assert_same_bits([vector(model)], [vector(other)])
    whole, _, _ = courses("iris", 5, average=True)
    assert_same_bits([vector(model)], [whole[-1]])


def test_parameters_that_were_assigned_begin_a_new_average():
    _, _, (model, _) = courses("iris", 4, average=True)
    _, X, y = dataset("iris")
    model.coefs_[0][:] = 0.25
    model.partial_fit(X, y)
    assert model._optimizer.average.steps == 1
    np.testing.assert_array_equal(np.sort(model._optimizer.averaged), np.sort(vector(model)))


def test_early_stopping_ends_with_the_best_average():
    ours, X, y = dataset("iris")
    model = quietly(
        ours(**SETTINGS | {"early_stopping": True, "max_iter": 30, "n_iter_no_change": 5}, average=0.9).fit, X, y
    )
    assert max(model.validation_scores_) == model.best_validation_score_
    plain = quietly(ours(**SETTINGS | {"early_stopping": True, "max_iter": 30, "n_iter_no_change": 5}).fit, X, y)
    assert not np.array_equal(vector(plain), vector(model))
    assert model.score(X, y) > 0.8


@pytest.mark.parametrize("wrong", [1.0, -0.1, 2, "mean", None])
def test_refusals(wrong):
    with pytest.raises(ValueError, match="'average' parameter"):
        NesterovMLPClassifier(average=wrong).fit([[0.0], [1.0]], [0, 1])
