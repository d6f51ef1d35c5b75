"""Steps on copies that are then assigned to Keras' variables: for NumPy, and wherever nothing may be written."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ..optimizers.optimizer import Optimizer

Settings = Callable[..., dict[str, Any]]  # what makes the settings of a step of (learning rate, t, functions)


class Steps:
    """The steps of one optimizer; each backend has a class like this one."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def ready(
        self,
        variables: list[Any],
        states: list[list[Any]],
        grads: list[Any],
        settings: Settings,
        learning_rate: Any,
        iterations: Any,
    ) -> Callable[[], None]:
        """What steps the variables, to be called; everything is checked before this returns.

        `states` has a list of variables for each state of the rule; `iterations` is the number of steps so far.
        """
        given = settings(number(learning_rate), 1 + int(number(iterations)), math)
        self.optimizer.arguments(given)
        grads = list(map(fitting, grads, variables))

        def run() -> None:
            columns = [[copy(x) for x in column] for column in (variables, *states)]
            stepped(self.optimizer, columns, grads, given)
            assign((variables, *states), columns)

        return run


def fitting(gradient: Any, variable: Any) -> Any:
    """The gradient in the dtype of its variable; raises where its shape is another."""
    if tuple(gradient.shape) != tuple(variable.shape):
        raise ValueError(
            f"the gradient of {variable.path} has shape {tuple(gradient.shape)}; {tuple(variable.shape)} is needed"
        )
    if keras.backend.standardize_dtype(gradient.dtype) != variable.dtype:
        return keras.ops.cast(gradient, variable.dtype)
    return gradient


def number(x: Any) -> float:
    """A number that Keras keeps in a variable or tensor."""
    return x if isinstance(x, float | int) else float(keras.ops.convert_to_numpy(x))


def copy(variable: Any) -> Any:
    """A copy of what a variable holds, that may be written."""
    x = variable.value
    # Under NumPy the zeros that Keras begins with are float32, whatever the dtype of their variable.
    return x.detach().clone() if hasattr(x, "detach") else np.array(x, variable.dtype)


def stepped(optimizer: Optimizer, columns: list[list[Any]], grads: list[Any], given: dict[str, Any]) -> None:
    """Step lists of arrays in place: the parameters, then each state."""
    params, *states = columns
    gradients = [g if hasattr(g, "detach") else np.asarray(g) for g in grads]  # NumPy's scalars are no arrays
    optimizer.step(params, gradients, **dict(zip(optimizer.rule.states, states, strict=True)), **given)


def assign(columns: tuple[list[Any], ...], values: Any) -> None:
    """Assign new values to lists of variables."""
    for column, made in zip(columns, values, strict=True):
        for variable, x in zip(column, made, strict=True):
            variable.assign(x)
