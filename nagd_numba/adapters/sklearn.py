"""Multi-layer perceptrons with the interface of scikit-learn, trained by the compiled kernels.

They take the place of `sklearn.neural_network.MLPClassifier` and `MLPRegressor` with `solver="sgd"`: the same
`random_state` gives the same initial weights, the same batches and, but for roundings, the same course.  scikit-learn
is imported by this module only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

try:
    from .perceptron import Perceptron  # which needs scikit-learn's validate_data, there since 1.6
except ImportError as error:
    raise ImportError("nagd_numba.adapters.sklearn needs scikit-learn >= 1.6: pip install scikit-learn") from error

from sklearn.base import ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import type_of_target, unique_labels

from ..mlp.labels import class_weights
from ..validation import finite, prefixed
from .coefs import packed
from .estimator_arguments import read
from .sklearn_regressor import NesterovMLPRegressor

__all__ = ["NesterovMLPClassifier", "NesterovMLPRegressor"]


class NesterovMLPClassifier(ClassifierMixin, Perceptron):
    """A multi-layer perceptron that classifies, trained by Nesterov's accelerated gradient.

    With `h_0 = X`, `z_l = h_{l-1} W_l + b_l` and `h_l = activation(z_l)`, it minimises the mean over a batch of

        -log softmax(z_L)[y]                                        three or more classes
        -sum_k (y_k log s(z_k) + (1 - y_k) log s(-z_k))             two classes (one output), or multilabel

    where `s` is the sigmoid, plus `alpha/2` times the sum of the squared weights, divided by the rows of the batch (or
    by the sum of their weights).  With the gradient `g`, learning rate `lr` and momentum `mu`, each batch makes

        v <- mu v - lr g;    W <- W + mu v - lr g        (nesterovs_momentum=False: W <- W + v)

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, or int
        Widths of the hidden layers, >= 1.
    activation : {"relu", "tanh", "logistic", "identity"}
        Of the hidden layers.
    solver : {"sgd"}
        There for code that names it; scikit-learn's "adam" and "lbfgs" are refused.
    alpha : float
        Weight of the penalty, >= 0.
    batch_size : int or "auto"
        Rows of a batch, >= 1; "auto" is the smaller of 200 and the number of samples.
    learning_rate : {"constant", "invscaling", "adaptive"}
        "invscaling": `learning_rate_init / (t_ + 1)^power_t` after each epoch.  "adaptive": divided by 5 whenever
        `n_iter_no_change` epochs in a row bring no improvement, until it is at most 1e-6.
    learning_rate_init : float
        > 0.
    power_t : float
        >= 0.
    max_iter : int
        Epochs at most, >= 1; a ConvergenceWarning says that they were not enough.
    shuffle : bool
        A new order of the samples in each epoch.
    random_state : int, numpy.random.RandomState or None
        Draws the initial weights, the split for early stopping, and the orders.
    tol : float
        What is an improvement of the loss, or of the validation score, >= 0.
    verbose : bool or int
        Print the loss of every epoch.
    warm_start : bool
        `fit` goes on from the present weights.
    momentum : float
        `mu`, in [0, 1].
    nesterovs_momentum : bool
        False: the heavy ball.
    early_stopping : bool
        Hold back a share of the samples (stratified, unless multilabel), watch the accuracy there instead of the loss,
        and end with the parameters that had the best.
    validation_fraction : float
        That share, in [0, 1).
    n_iter_no_change : int or numpy.inf
        Epochs without an improvement of `tol` after which the training ends (or the rate is lowered), >= 1.
    average : bool or float
        True: `coefs_` and `intercepts_` are the mean of the parameters after every batch, as in scikit-learn's
        `SGDClassifier`; a number d in [0, 1): their exponential average, without bias,
        `a <- a + (1 - d)/(1 - d^k) (W - a)` after batch k.  Early stopping watches the average.  `partial_fit` goes on
        from the parameters, and from `coefs_` where these were assigned; a warm start from `coefs_`.
    class_weight : dict from classes to weights, "balanced", or None
        The weight of a class multiplies those of its samples, with the meaning that it has in scikit-learn (whose
        `MLPClassifier` has none); not for multilabel, and "balanced" not for `partial_fit`.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    coefs_, intercepts_ : list of arrays
        `W_l` of shape (inputs, outputs) and `b_l` (outputs,), views of one vector.  They may be written to, and
        assigned: predictions, `partial_fit` and a warm start take them as they are.
    loss_curve_, loss_, best_loss_ : list of float, float, float
        Mean loss of the batches of each epoch, with the penalty; of the last; the lowest (None with early stopping).
    validation_scores_, best_validation_score_ : list of float, float
        With early stopping, else None.
    n_iter_, t_ : int
        Epochs of the last call, and samples seen since the weights were new.
    n_features_in_, n_layers_, n_outputs_ : int
    out_activation_ : {"softmax", "logistic"}
    feature_names_in_ : array of str
        Where X has such names.

    Raises
    ------
    ValueError
        By `fit` and `partial_fit`, for parameters out of these ranges.
    ImportError
        By the module, without scikit-learn.

    Notes
    -----
    float32 trains in float32, everything else in float64, where `loss_curve_` agrees with scikit-learn's to about 1e-12
    per epoch.  The differences: scikit-learn takes probabilities for at least 2e-16 (float32: 1e-7) when it reports the
    loss; divides by 0 where the weights of a batch sum to 0, which is passed over here; and after a second fit with
    warm start and early stopping may keep the last parameters for the best.  An interrupt (Ctrl-C) ends the training
    with a warning, and the estimator is usable.

    References
    ----------
    Y. Nesterov, Soviet Math. Dokl. 27 (1983); I. Sutskever et al., ICML 2013; X. Glorot, Y. Bengio, AISTATS 2010
    (initial weights); F. Pedregosa et al., JMLR 12 (2011) 2825 (scikit-learn).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> network = NesterovMLPClassifier((16,), learning_rate_init=0.1, tol=1e-3, random_state=0)
    >>> model = make_pipeline(StandardScaler(), network).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    >>> network.coefs_[0].shape
    (4, 16)
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - the name and the form are scikit-learn's
        **Perceptron._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }
    class_weight: Any = None  # of estimators that were pickled before they had it

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "sgd",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: float = 10,
        average: bool | float = False,
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            average=average,
        )
        self.class_weight = class_weight

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch, with the velocity and the learning rate of the call before.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array of shape (n_classes,)
            All classes there are; needed by the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            As `fit`; for classes that are missing or not those of the first call; and with `early_stopping`.
        """
        with prefixed(f"{type(self).__name__}.partial_fit"):
            if isinstance(self.class_weight, str):
                raise ValueError(
                    f"class_weight is {self.class_weight!r}, and partial_fit knows only some of the samples; a dict is "
                    f"needed: sklearn.utils.class_weight.compute_class_weight('balanced', classes=..., y=...)"
                )
            if not hasattr(self, "classes_"):
                if classes is None:
                    raise ValueError("classes is missing; the first call needs all classes: np.unique(y)")
                multilabel = type_of_target(y).startswith("multilabel")
                self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
                self.classes_ = unique_labels(classes)
            elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
                raise ValueError(
                    f"classes is {classes!r}, and the first call had {self.classes_}; leave it out from then on"
                )
            return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, (n_samples,); for multilabel an indicator matrix (n_samples, n_classes).

        `X` is an array or sparse matrix of shape (n_samples, n_features).  Raises ValueError where the network's
        outputs are NaN, which have no class.
        """
        found = self._outputs(self._validated(X))
        with prefixed(f"{type(self).__name__}.predict"):
            if np.isnan(found).any():
                finite("the vector of coefs_ and intercepts_", packed(self.coefs_, self.intercepts_)[1])
                finite("the outputs", found, np.dtype(found.dtype))
        return self._labels(found)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, (n_samples, n_classes), in the order of `classes_`.

        `X` is an array or sparse matrix of shape (n_samples, n_features).  For multilabel the rows do not sum to 1.
        """
        found = self._outputs(self._validated(X))
        return np.hstack([1 - found, found]) if self.n_outputs_ == 1 else found

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of `predict_proba`."""
        found = self.predict_proba(X)
        np.log(found, out=found)
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _checked(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray]:
        X, y = read(self, X, y, reset=reset)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            given = unique_labels(y)
            if self.warm_start and set(given) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {given}"
                )
            if not np.isin(given, self.classes_).all():
                raise ValueError(f"`y` has classes not in `self.classes_`: {given}, not all of them in {self.classes_}")
        return X, self._label_binarizer.transform(y).astype(bool)

    def _weights(self, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
        if self.class_weight is None:
            return weights
        if self._label_binarizer.y_type_.startswith("multilabel"):
            raise ValueError("class_weight is given, and y is multilabel; leave it out, or give sample_weight")
        labels = y[:, 0].astype(np.int64) if y.shape[1] == 1 else y.argmax(axis=1)
        own = np.ones(len(y)) if weights is None else weights.astype(np.float64)
        each: np.ndarray
        if isinstance(self.class_weight, str):
            each = class_weights(self.class_weight, labels, own, len(self.classes_))
        else:
            each = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[labels])
        weighted: np.ndarray = own * each[labels]
        return weighted

    def _output_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _stratified(self, y: np.ndarray) -> np.ndarray | None:
        # As in scikit-learn: two classes are, more are not, and the draws depend on it.
        return y if self.n_outputs_ == 1 else None

    def _scorer(self, y: np.ndarray, weights: np.ndarray | None) -> Callable[[np.ndarray], float]:
        """The accuracy; for multilabel the share of rows in which all are right."""

        def score(found: np.ndarray) -> float:
            if self.out_activation_ == "softmax":
                right = found.argmax(axis=1) == labels
            else:  # one class is always right
                right = ((found > 0.5) == y).all(axis=1) | (len(self.classes_) == 1)
            return float(np.average(right, weights=weights))

        labels = y.argmax(axis=1)
        return score

    def _labels(self, found: np.ndarray) -> np.ndarray:
        labels: np.ndarray = self._label_binarizer.inverse_transform(found.ravel() if self.n_outputs_ == 1 else found)
        return labels
