"""Who predicts with the digits network, and who finds its gradient: ours and each peer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .contenders import Missing
from .digits import Case, sklearn_model, torch_model


def predict_ours(case: Case, rows: int) -> Callable[[], np.ndarray]:
    X = case.samples(rows)
    return lambda: case.net.predict(case.flat, X)


def predict_torch(case: Case, rows: int) -> Callable[[], np.ndarray]:
    try:
        import torch
    except ImportError:
        raise Missing("torch is not installed") from None
    model, _ = torch_model(case)
    tensor = torch.from_numpy(case.samples(rows))

    def predict():
        with torch.no_grad():
            return model(tensor).argmax(1).numpy()

    return predict


def predict_sklearn(case: Case, rows: int) -> Callable[[], np.ndarray]:
    classifier, X = sklearn_model(case, 1), case.samples(rows)
    return lambda: classifier.predict(X)


def predict_numpy(case: Case, rows: int) -> Callable[[], np.ndarray]:
    """With NumPy's BLAS."""
    (W1, b1, W2, b2), X = case.weights, case.samples(rows)
    return lambda: (np.maximum(X @ W1 + b1, 0) @ W2 + b2).argmax(axis=1)


PREDICTORS = {"ours": predict_ours, "NumPy": predict_numpy, "torch": predict_torch, "scikit-learn": predict_sklearn}


def gradients_ours(case: Case) -> Callable[[], object]:
    X, y, grads = case.X[: case.batch], case.y[: case.batch], np.zeros_like(case.flat)
    return lambda: case.net.value_and_grad(case.flat, X, y, out=grads)


def gradients_jax(case: Case) -> Callable[[], object]:
    try:
        import jax
    except ImportError:
        raise Missing("jax is not installed") from None
    value_and_grad = jax.jit(jax.value_and_grad(case.jax_loss()))
    weights = [jax.numpy.asarray(w) for w in case.weights]
    X, y = jax.numpy.asarray(case.X[: case.batch]), jax.numpy.asarray(case.y[: case.batch])
    return lambda: jax.block_until_ready(value_and_grad(weights, X, y))


def gradients_torch(case: Case) -> Callable[[], object]:
    try:
        import torch
    except ImportError:
        raise Missing("torch is not installed") from None
    model, weights = torch_model(case)
    X, y = torch.from_numpy(case.X[: case.batch]), torch.from_numpy(case.y[: case.batch])

    def call():
        for w in weights:
            w.grad = None
        torch.nn.functional.cross_entropy(model(X), y).backward()

    return call


GRADIENTS = {"ours": gradients_ours, "JAX": gradients_jax, "torch": gradients_torch}
