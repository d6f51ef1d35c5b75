"""`MLP.compiled`: what a network computes, as functions for the user's own compiled code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import validation
from ..kernels.jit import user_function
from ..kernels.raising import heard
from . import arguments
from .cpu import epilogues, inference, losses
from .spec import NetworkSpec

NAMES = ("predict", "predict_proba", "forward")
NO_LABEL = -1  # in a thread where nobody hears the exception; of numbers, NaN


def compiled(spec: NetworkSpec, name: str) -> Callable:
    """See `MLP.compiled`."""
    arguments.host_precision(spec)
    validation.choice("name", name, NAMES)
    fits = _check(spec)
    forward = _forward(spec, fits)
    if name == "forward" or (name == "predict" and spec.loss == "mse"):
        return forward
    if name == "predict_proba":
        if spec.loss == "mse":
            raise ValueError("loss is 'mse', whose outputs are no probabilities; use 'predict' or 'forward'")
        probabilities = losses.probability_kernel(spec.dtype_name, spec.loss).for_users

        @user_function
        def predict_proba(params, X):
            z = forward(params, X)
            probabilities(z)
            return z

        return predict_proba

    if spec.loss == "cross_entropy":

        @user_function
        def predict(params, X):
            if not fits(params, X):
                return np.full(X.shape[0], NO_LABEL)
            z = forward(params, X)
            labels = np.empty(z.shape[0], np.int64)
            for i in range(z.shape[0]):
                best = 0
                for j in range(1, z.shape[1]):
                    # As NumPy's argmax: a NaN counts as the largest.
                    if z[i, j] > z[i, best] or (np.isnan(z[i, j]) and not np.isnan(z[i, best])):
                        best = j
                labels[i] = best
            return labels

        return predict

    @user_function
    def predict_each(params, X):
        z = forward(params, X)
        labels = np.full(z.shape, NO_LABEL)
        if not fits(params, X):
            return labels
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                labels[i, j] = 1 if z[i, j] > 0 else 0
        return labels

    return predict_each


def _check(spec: NetworkSpec) -> Callable:
    """`fits(params, X)` raises where their sizes do not fit; where nobody would hear it, it is False."""
    size, inputs = spec.size, spec.sizes[0]

    @user_function
    def fits(params, X):
        if params.size == size and X.shape[1] == inputs:
            return True
        if heard():
            raise ValueError("params or X has another size than the network needs")
        return False

    return fits


def _forward(spec: NetworkSpec, fits: Callable) -> Callable:
    kernel = inference.forward_kernel(spec.dtype_name).for_users
    product = epilogues.forward(spec.dtype_name, spec.activation).address
    sizes, outputs, dtype = spec.dims, spec.sizes[-1], spec.dtype

    @user_function
    def forward(params, X):
        out = np.empty((X.shape[0], outputs), dtype)
        if fits(params, X):
            kernel(params, X, sizes, out, product, 0)
        else:
            out[:] = np.nan
        return out

    return forward
