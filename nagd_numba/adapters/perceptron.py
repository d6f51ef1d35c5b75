"""What the estimators of `sklearn.py` share: parameters, checks and the training, with the semantics of scikit-learn.

The order of the random draws is scikit-learn's: initial weights and biases layer by layer, the split for early
stopping, then a permutation for every epoch, each applied to the order of the epoch before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..mlp import MLP, layout
from ..mlp.arguments import apart
from ..mlp.dataset import Data
from ..mlp.sparse import sparse_rows
from ..validation import finite, prefixed
from .coefs import packed, views
from .descent import Descent, losses
from .estimator_arguments import by_rows, hidden_sizes

ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
LOSSES = {"softmax": "cross_entropy", "logistic": "binary_cross_entropy", "identity": "mse"}  # by output activation
SPARSE_BLOCK = 1 << 23  # elements of a sparse X that are made dense at once to predict


class Perceptron(BaseEstimator):
    """The common part of the classifier and the regressor; see them for the parameters."""

    # solver and loss are checked in `_fit`, whose messages say what to use instead.
    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - the name and the form are scikit-learn's
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "average": ["boolean", Interval(Real, 0, 1, closed="left")],
    }
    average: bool | float = False  # of estimators that were pickled before they had it

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
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.average = average

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # What the classifier and the regressor do in their own way.

    def _checked(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray]:
        """X and y after scikit-learn's checks; y a matrix with a column for each output."""
        raise NotImplementedError

    def _output_activation(self) -> str:
        raise NotImplementedError

    def _weights(self, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
        """The weights of the samples, or None for equal ones."""
        return weights

    def _stratified(self, y: np.ndarray) -> np.ndarray | None:
        """What the split for early stopping is stratified by."""
        raise NotImplementedError

    def _scorer(self, y: np.ndarray, weights: np.ndarray | None) -> Callable[[np.ndarray], float]:
        """`score(found)`: how well what the network says of validation data fits `y`, as `score` of the estimator."""
        raise NotImplementedError

    # Training.

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X and y, from new weights unless `warm_start` is set.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            float32 trains in float32, everything else in float64.  A sparse one trains by its stored values (CSR, as
            others are made), to the bits of the dense one.
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            Classes, or an indicator matrix of 0 and 1 (multilabel); for regression real numbers.
        sample_weight : array of shape (n_samples,), optional
            Weights of the samples in the mean of a batch.  A batch whose weights sum to 0 is passed over.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For unfit arguments and parameters, also where y or the weights of the samples are not finite in the dtype
            of the training, and for parameters of the network that are not finite, before or afterwards.
        """
        with prefixed(f"{type(self).__name__}.fit"):
            return self._fit(X, y, sample_weight, incremental=False)

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Self:
        self._refuse()
        if incremental and self.early_stopping:
            raise ValueError(
                "partial_fit does not support early_stopping=True: there is no validation set between its calls; "
                "set_params(early_stopping=False), or use fit"
            )
        hidden = hidden_sizes(self.hidden_layer_sizes)
        fresh = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._checked(X, y, incremental, reset=fresh)
        X = by_rows(X)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        weights = self._weights(y, weights)
        self.n_outputs_ = y.shape[1]
        sizes = (X.shape[1], *hidden, y.shape[1])
        self._random_state = check_random_state(self.random_state)
        if fresh:
            self._initialize(sizes, X.dtype)
        flat = self._trainable(sizes)
        finite("the vector of coefs_ and intercepts_", flat)
        apart("coefs_", flat, X=X.data if sparse.issparse(X) else X, y=y)
        finite("y", y, flat.dtype)
        if weights is not None:
            finite("sample_weight", weights, flat.dtype)
        if fresh or self.early_stopping == (getattr(self, "best_validation_score_", None) is None):
            self._watch(flat)
        self._descend(flat, sizes, X, y, weights, incremental)
        if not np.isfinite(flat).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                f"preprocessed: scale X (StandardScaler), or take a smaller learning_rate_init than "
                f"{self.learning_rate_init}"
            )
        return self

    def _refuse(self) -> None:
        """Raise for the values of scikit-learn's parameters that cannot be honoured here."""
        if self.solver != "sgd":
            theirs = type(self).__name__.removeprefix("Nesterov")
            raise ValueError(
                f"solver is {self.solver!r}; only 'sgd' is allowed, gradient descent with momentum. "
                f"sklearn.neural_network.{theirs} has 'adam' and 'lbfgs'"
            )

    def _initialize(self, sizes: Sequence[int], dtype: np.dtype) -> None:
        """New weights and biases, and everything else as before the first epoch."""
        self.t_ = 0
        self.n_iter_ = 0
        self.n_layers_ = len(sizes)
        self.out_activation_ = self._output_activation()
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        flat = np.empty(layout.parameter_count(sizes), dtype)
        for layer in layout.layers(sizes):
            bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / (layer.inputs + layer.outputs))
            size = (layer.inputs + 1) * layer.outputs
            flat[layer.weights : layer.weights + size] = self._random_state.uniform(-bound, bound, size)
        self.coefs_, self.intercepts_ = views(sizes, flat)

    def _trainable(self, sizes: tuple[int, ...]) -> np.ndarray:
        """The vector that `coefs_` and `intercepts_` are views of; made anew where they were assigned."""
        found, flat = packed(self.coefs_, self.intercepts_, write=True)
        if found != sizes:
            raise ValueError(
                f"coefs_ are those of a network of sizes {found}, and hidden_layer_sizes and the data make {sizes}; "
                f"to train a new network, call fit with warm_start=False"
            )
        if getattr(self.coefs_[0], "base", None) is not flat:
            self.coefs_, self.intercepts_ = views(sizes, flat)
        return flat

    def _watch(self, flat: np.ndarray) -> None:
        """Begin to look for the best epoch."""
        self.validation_scores_: Any = [] if self.early_stopping else None
        self.best_validation_score_: Any = -np.inf if self.early_stopping else None
        self.best_loss_: Any = None if self.early_stopping else np.inf
        self._best = flat.copy() if self.early_stopping else None

    def _descend(
        self,
        flat: np.ndarray,
        sizes: tuple[int, ...],
        X: Any,
        y: np.ndarray,
        weights: np.ndarray | None,
        incremental: bool,
    ) -> None:
        """The epochs."""
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = Descent(
                *(self.learning_rate_init, self.learning_rate, self.momentum, self.nesterovs_momentum, self.power_t),
                learning_rate=float(self.learning_rate_init),
                velocity=np.zeros_like(flat),
            )
        descent = self._optimizer
        if descent.velocity.shape != flat.shape or descent.velocity.dtype != flat.dtype:
            descent.velocity = np.zeros_like(flat)  # coefs_ of another kind were assigned
        trained = descent.trained(flat, self.average)
        model = self._model(sizes, flat.dtype, self.alpha)
        samples = X.shape[0]
        order: np.ndarray = np.arange(samples)
        score: Callable[[], float] | None = None
        if self.early_stopping:
            order, held = train_test_split(
                order, random_state=self._random_state, test_size=self.validation_fraction, stratify=self._stratified(y)
            )
            if len(held) < 2:
                raise ValueError(
                    f"The validation set is too small. It has {len(held)} of {samples} samples and needs 2: "
                    f"a larger validation_fraction than {self.validation_fraction}, or more samples"
                )
            score_of = self._scorer(y[held], None if weights is None else weights[held])
            held_X = X[held].astype(flat.dtype, copy=False)

            def score() -> float:
                return score_of(computed(model, flat, held_X))

        rows = len(order)
        batch = min(200, rows) if self.batch_size == "auto" else int(self.batch_size)
        if batch > rows:
            warnings.warn(
                f"batch_size is {batch} and there are {rows} samples to train on; it is clipped", stacklevel=5
            )
            batch = rows

        def shuffled(_: int) -> np.ndarray:
            nonlocal order
            if self.shuffle:
                permutation = np.arange(rows)
                self._random_state.shuffle(permutation)
                order = order[permutation]
            return order

        labels = model.loss_name == "cross_entropy"
        targets = y.argmax(axis=1).astype(np.int64) if labels else np.ascontiguousarray(y, flat.dtype)
        counted = np.zeros(0, flat.dtype) if weights is None else weights.astype(flat.dtype)
        rows_of_X = sparse_rows(X, flat.dtype) if sparse.issparse(X) else X
        epochs = losses(model, trained, descent, Data(rows_of_X, targets, counted), rows, batch, shuffled)
        try:
            self.n_iter_ = 0
            while self.n_iter_ < self.max_iter:
                self.loss_ = next(epochs)
                self.n_iter_ += 1
                self.t_ += rows
                self.loss_curve_.append(self.loss_)
                if self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                self._compare(flat, score)
                descent.epoch_ends(self.t_)
                if self._no_improvement_count > self.n_iter_no_change:
                    if self._stops(descent):
                        break
                    self._no_improvement_count = 0
                if incremental:
                    break
                if self.n_iter_ == self.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached before the "
                        f"{'validation score' if self.early_stopping else 'training loss'} settled within "
                        f"tol={self.tol}; a larger max_iter or learning_rate_init helps",
                        ConvergenceWarning,
                        stacklevel=5,
                    )
        except KeyboardInterrupt:
            warnings.warn(f"Training interrupted by user, in epoch {self.n_iter_ + 1}", stacklevel=5)
        finally:
            descent.ended(flat)
        if self.early_stopping:
            flat[...] = self._best

    def _compare(self, flat: np.ndarray, score: Callable[[], float] | None) -> None:
        """Count the epochs without improvement, of the validation score or else of the loss; keep the best.

        The comparisons are scikit-learn's, also in what they make of NaN.
        """
        if score is None:
            worse = self.loss_ > self.best_loss_ - self.tol
            if self.loss_ < self.best_loss_:
                self.best_loss_ = self.loss_
        else:
            value = score()
            self.validation_scores_.append(value)
            if self.verbose:
                print(f"Validation score: {value:f}")
            worse = value < self.best_validation_score_ + self.tol
            if value > self.best_validation_score_:
                self.best_validation_score_ = value
                self._best = flat.copy()
        self._no_improvement_count = self._no_improvement_count + 1 if worse else 0

    def _stops(self, descent: Descent) -> bool:
        """Is this the end, after so many epochs without improvement?  If not, the learning rate was lowered."""
        what, done = descent.without_improvement()
        if self.verbose:
            watched = "Validation score" if self.early_stopping else "Training loss"
            epochs = f"{self.n_iter_no_change} consecutive epochs"
            print(f"{watched} did not improve more than tol={self.tol:f} for {epochs}. {what}")
        return done

    # Prediction.

    def _model(self, sizes: tuple[int, ...], dtype: Any, l2: float = 0.0) -> MLP:
        return MLP(sizes, ACTIVATIONS[self.activation], LOSSES[self.out_activation_], l2=l2, dtype=dtype)

    def _validated(self, X: Any) -> Any:
        """X for a prediction, after scikit-learn's checks."""
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)

    def _outputs(self, X: Any) -> np.ndarray:
        """What the network says of checked X, (n_samples, n_outputs): probabilities, or the outputs for regression."""
        sizes, flat = packed(self.coefs_, self.intercepts_)
        # As in NumPy's products, the wider of the two dtypes; uint8 is made a float here, since MLP would scale it.
        dtype = np.float32 if np.result_type(X.dtype, flat.dtype) == np.float32 else np.float64
        model, flat = self._model(sizes, dtype), flat.astype(dtype, copy=False)
        if not sparse.issparse(X):
            X = np.ascontiguousarray(X, dtype)
        return computed(model, flat, by_rows(X))


def computed(model: MLP, flat: np.ndarray, X: Any) -> np.ndarray:
    """Probabilities, or the outputs for regression; of a sparse X some rows at a time are made dense."""
    if sparse.issparse(X):
        rows = max(1, SPARSE_BLOCK // X.shape[1])
        blocks = (X[first : first + rows].toarray() for first in range(0, X.shape[0], rows))
        return np.concatenate([computed(model, flat, block.astype(model.dtype)) for block in blocks])
    found: np.ndarray = model.forward(flat, X) if model.loss_name == "mse" else model.predict_proba(flat, X)
    return found
