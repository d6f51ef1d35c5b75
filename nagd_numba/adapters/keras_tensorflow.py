"""Steps of Keras' variables on TensorFlow: a call back to Python from its graph, on copies of the arrays.

TensorFlow's arrays are immutable, and its custom operations are written in C++: `tf.numpy_function` is what there is
without a compiler.  XLA has no such call, so that models must be compiled with `jit_compile=False`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from . import keras_copies
from .keras_copies import Settings, assign, fitting, number, stepped


class Steps(keras_copies.Steps):
    """The steps of one optimizer."""

    def ready(
        self,
        variables: list[Any],
        states: list[list[Any]],
        grads: list[Any],
        settings: Settings,
        learning_rate: Any,
        iterations: Any,
    ) -> Callable[[], None]:
        """What steps the variables, to be called; what is known while TensorFlow traces is checked before."""
        if tf.distribute.has_strategy():
            raise ValueError("tf.distribute is not supported: train without a strategy, or take keras.optimizers")
        if not tf.executing_eagerly() and GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
            raise ValueError(
                "this step cannot be part of a program of XLA: model.compile(..., jit_compile=False) is needed with "
                "TensorFlow"
            )
        known = number(learning_rate) if tf.executing_eagerly() else 0.0
        self.optimizer.arguments(settings(known, 1, math))
        dense = [tf.convert_to_tensor(g) for g in map(fitting, grads, variables)]
        columns = (variables, *states)
        count = len(variables)

        def step(rate: Any, steps: Any, *arrays: Any) -> list[Any]:
            given = settings(float(rate), 1 + int(steps), math)
            self.optimizer.arguments(given)
            made = [list(map(np.array, arrays[k : k + count])) for k in range(0, len(columns) * count, count)]
            stepped(self.optimizer, made, list(arrays[len(columns) * count :]), given)
            return [x for column in made for x in column]

        def run() -> None:
            values = [keras.ops.convert_to_tensor(x) for column in columns for x in column]
            numbers = [keras.ops.convert_to_tensor(x) for x in (learning_rate, iterations)]
            made = tf.numpy_function(step, [*numbers, *values, *dense], [x.dtype for x in values])
            for x, value in zip(made, values, strict=True):
                x.set_shape(value.shape)
            assign(columns, [made[k : k + count] for k in range(0, len(made), count)])

        return run
