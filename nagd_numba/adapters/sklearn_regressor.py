"""The estimator for regression; see `sklearn.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin, _fit_context

from ..validation import prefixed
from .estimator_arguments import read
from .perceptron import Perceptron


class NesterovMLPRegressor(RegressorMixin, Perceptron):
    """A multi-layer perceptron for regression, trained by Nesterov's accelerated gradient.

    With `h_0 = X`, `z_l = h_{l-1} W_l + b_l` and `h_l = activation(z_l)`, it reports the mean over a batch and the
    outputs of `(z_L - y)^2 / 2`, and goes down the gradient of its sum over the outputs (as scikit-learn does: with
    several outputs each keeps the learning rate that it has alone), each plus the penalty of
    `NesterovMLPClassifier`; the updates are written there too.

    Parameters
    ----------
    loss : {"squared_error"}
        There for code that names it; scikit-learn's "poisson" is refused.
    hidden_layer_sizes, activation, ..., n_iter_no_change, average
        As for `NesterovMLPClassifier`, in the same order; the validation score is R^2.

    Attributes
    ----------
    out_activation_ : {"identity"}
    coefs_, intercepts_, ..., feature_names_in_
        As for `NesterovMLPClassifier`, without `classes_`.

    Raises
    ------
    ValueError, ImportError
        As for `NesterovMLPClassifier`.

    References
    ----------
    As for `NesterovMLPClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.hstack([X**2, np.sin(3 * X)])
    >>> model = NesterovMLPRegressor(hidden_layer_sizes=(32,), learning_rate_init=0.1, max_iter=500, random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    def __init__(
        self,
        loss: str = "squared_error",
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
        self.loss = loss

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch, with the velocity and the learning rate of the call before; arguments as for `fit`."""
        with prefixed(f"{type(self).__name__}.partial_fit"):
            return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """The outputs for each row, (n_samples,), or (n_samples, n_outputs) for several.

        `X` is an array or sparse matrix of shape (n_samples, n_features).
        """
        return self._values(self._outputs(self._validated(X)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _refuse(self) -> None:
        super()._refuse()
        if self.loss != "squared_error":
            raise ValueError(
                f"loss is {self.loss!r}; only 'squared_error' is allowed. "
                "sklearn.neural_network.MLPRegressor (from 1.7 on) has 'poisson'"
            )

    def _checked(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray]:
        X, y = read(self, X, y, reset=reset, y_numeric=True)
        return X, y.reshape(len(y), -1)

    def _output_activation(self) -> str:
        return "identity"

    def _stratified(self, y: np.ndarray) -> np.ndarray | None:
        return None

    def _scorer(self, y: np.ndarray, weights: np.ndarray | None) -> Callable[[np.ndarray], float]:
        """R^2, the mean over the outputs; as in scikit-learn 1 or 0 for an output whose y is constant."""
        scales = np.ones((len(y), 1)) if weights is None else weights[:, None]
        spread = (scales * (y - np.average(y, axis=0, weights=weights)) ** 2).sum(axis=0)

        def score(found: np.ndarray) -> float:
            if not np.isfinite(found).all():
                return float("nan")
            with np.errstate(all="ignore"):  # of a training that diverges
                errors = (scales * (y - found.astype(np.float64)) ** 2).sum(axis=0)
            constant = np.where(errors == 0, 1.0, 0.0)
            return float(np.where(spread == 0, constant, 1 - errors / np.where(spread == 0, 1, spread)).mean())

        return score

    def _values(self, found: np.ndarray) -> np.ndarray:
        return found.ravel() if self.n_outputs_ == 1 else found
