"""The network and the data that everybody trains and predicts with.

A 64-hidden-10 network in float32 on the digits: every peer's begins with the same weights, and takes the same batches
in the same order.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import nagd_numba
from nagd_numba.io.digits import read_digits

from .contenders import Missing

EPOCHS, LR, MOMENTUM = 20, 0.05, 0.9

Weights = list[np.ndarray]  # W1, b1, W2, b2


@dataclass
class Case:
    """One network and its data, cut to whole batches: peers differ in how they treat a smaller last one."""

    batch: int
    hidden: int
    most: int | None = None  # rows

    def __post_init__(self):
        X, y = (x[: self.most] for x in read_digits())
        count = len(X) // self.batch * self.batch
        rows = np.random.default_rng(0).permutation(len(X))[:count]
        self.X, self.y = (X[rows] / 16).astype(np.float32), y[rows].astype(np.int64)
        self.steps = count // self.batch
        self.net = nagd_numba.MLP([64, self.hidden, 10])
        self.flat = self.net.init(0)
        self.weights = self.views(self.flat)

    def views(self, params: np.ndarray) -> Weights:
        named = self.net.unflatten(params)
        return [named[name] for name in ("W1", "b1", "W2", "b2")]

    def samples(self, rows: int) -> np.ndarray:
        """So many rows, repeated where there are fewer."""
        return np.resize(self.X, (rows, 64))

    def jax_loss(self) -> Callable[..., Any]:
        """`loss(weights, X, y)` for JAX to differentiate."""
        import jax
        import jax.numpy as jnp

        def loss(weights, X, y):
            W1, b1, W2, b2 = weights
            z = jax.nn.relu(X @ W1 + b1) @ W2 + b2
            return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1).mean()

        return loss

    @property
    def flop(self) -> int:
        """Multiplications and additions of the products of a step: forward, gradients, deltas of the hidden layer."""
        return 2 * self.batch * (2 * 64 * self.hidden + 3 * 10 * self.hidden)

    @property
    def bytes(self) -> int:
        """What a step reads and writes at least: its batch, and the parameters and velocities."""
        return 4 * (self.batch * 64 + 4 * self.net.size)

    def loss(self, weights: Weights) -> float:
        """The mean over all rows, in float64: the same judge for everybody."""
        W1, b1, W2, b2 = (np.asarray(w, np.float64) for w in weights)
        z = np.maximum(self.X @ W1 + b1, 0) @ W2 + b2
        z -= z.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), self.y]))


def torch_model(case: Case):
    """The network with the initial weights, and its parameters in the order of `Weights`."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(64, case.hidden), torch.nn.ReLU(), torch.nn.Linear(case.hidden, 10))
    weights = list(model.parameters())
    with torch.no_grad():
        for w, start in zip(weights, case.weights, strict=True):
            w.copy_(torch.from_numpy(start.T.copy()))
    return model, weights


def sklearn_model(case: Case, epochs: int):
    """An MLPClassifier that starts at the initial weights: `warm_start` goes on from its `coefs_`, set in place."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        raise Missing("scikit-learn is not installed") from None
    warnings.simplefilter("ignore", ConvergenceWarning)  # that all epochs were done
    options = {"solver": "sgd", "learning_rate_init": LR, "momentum": MOMENTUM, "nesterovs_momentum": True, "alpha": 0}
    endless = {"max_iter": epochs, "tol": 0, "n_iter_no_change": 10**9, "shuffle": False, "warm_start": True}
    model = MLPClassifier((case.hidden,), batch_size=case.batch, **options, **endless).fit(case.X, case.y)
    sklearn_reset(model, case)
    return model


def sklearn_weights(model) -> Weights:
    return [model.coefs_[0], model.intercepts_[0], model.coefs_[1], model.intercepts_[1]]


def sklearn_reset(model, case: Case) -> None:
    for w, start in zip(sklearn_weights(model), case.weights, strict=True):
        w[...] = start


def those_there(makers: Mapping[str, Callable[..., Any]], *arguments: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """What the makers make, by name, and why some do not."""
    made, missing = {}, {}
    for name, make in makers.items():
        try:
            made[name] = make(*arguments)
        except Missing as error:
            missing[name] = str(error)
    return made, missing
