"""Steps of Keras' variables on JAX: one custom call for all of them, inside of Keras' compiled step of training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras

from ..optimizers.optimizer import Optimizer
from . import keras_copies, optax
from .keras_copies import Settings, assign, fitting


class Steps(keras_copies.Steps):
    """The steps of one optimizer, as functions of arrays."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self._step = getattr(optax, optimizer.name)

    def ready(
        self,
        variables: list[Any],
        states: list[list[Any]],
        grads: list[Any],
        settings: Settings,
        learning_rate: Any,
        iterations: Any,
    ) -> Callable[[], None]:
        """What steps the variables, to be called; what is known while JAX traces is checked before."""
        rate, steps = map(keras.ops.convert_to_tensor, (learning_rate, iterations))
        traced = isinstance(rate, jax.core.Tracer)
        self.optimizer.arguments(settings(0.0 if traced else float(rate), 1, math))
        given = settings(rate, steps + 1, jnp)
        grads = list(map(fitting, grads, variables))

        def run() -> None:
            columns = [[x.value for x in column] for column in (variables, *states)]
            params, *others = columns
            assign((variables, *states), self._step(params, grads, *others, **given))

        return run
