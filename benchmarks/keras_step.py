"""A step of the optimizers for Keras beside Keras' own, for the network of 64, 128 and 10 units.

`KERAS_BACKEND=torch python -m benchmarks.keras_step` prints the time of a step of NAG, and how many times as long
`keras.optimizers.SGD(nesterov=True)` takes; then the same of Adam.  A step is `apply` on gradients that are there; with
JAX and TensorFlow compiled as in `fit`, and with JAX given the memory of its arguments.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SHAPES = [(64, 128), (128,), (128, 10), (10,)]
ROUNDS, CALLS = 60, 50


def stepper(optimizer: Any, xla: bool = False) -> Callable[[], object]:
    """One step of an optimizer, to be called again and again."""
    import keras

    rng = np.random.default_rng(0)
    variables = [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in SHAPES]
    grads = [keras.ops.convert_to_tensor(0.01 * rng.normal(size=shape).astype(np.float32)) for shape in SHAPES]
    optimizer.build(variables)
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        compiled = jax.jit(optimizer.stateless_apply, donate_argnums=(0, 2))
        held = [[x.value for x in optimizer.variables], [x.value for x in variables]]

        def step() -> object:
            held[1], held[0] = compiled(held[0], grads, held[1])
            return held[1][0].block_until_ready()

        return step
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda: optimizer.apply(grads, variables), jit_compile=xla)
    return lambda: optimizer.apply(grads, variables)


def compared(backend: str, steps: dict[str, Callable[[], object]]) -> None:
    """Time steps in turns; the first is ours."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(5):
            step()
    for _ in range(ROUNDS):
        for name, step in steps.items():
            began = time.perf_counter()
            for _ in range(CALLS):
                step()
            times[name].append((time.perf_counter() - began) / CALLS)
    first, *others = steps
    print(f"{backend:10} {first}: {1e6 * statistics.median(times[first]):.0f} us a step", end="")
    for name in others:
        ratio = statistics.median(x / y for x, y in zip(times[name], times[first], strict=True))
        print(f";  {name} {ratio:.2f} times as long", end="")
    print()


def main() -> None:
    """Compare NAG and Adam with Keras'."""
    from keras import backend, optimizers

    from nagd_numba.adapters.keras import NAG, Adam

    sgd = {"learning_rate": 1e-3, "momentum": 0.9, "nesterov": True}
    nag: dict[str, Callable[[], object]] = {"NAG": stepper(NAG(1e-3))}
    adam: dict[str, Callable[[], object]] = {"Adam": stepper(Adam())}
    nag["Keras' SGD"] = stepper(optimizers.SGD(**sgd))
    adam["Keras' Adam"] = stepper(optimizers.Adam())
    if backend.backend() == "tensorflow":  # XLA is what Keras' own can have, and ours cannot
        nag["Keras' SGD in XLA"] = stepper(optimizers.SGD(**sgd), xla=True)
        adam["Keras' Adam in XLA"] = stepper(optimizers.Adam(), xla=True)
    compared(backend.backend(), nag)
    compared(backend.backend(), adam)


if __name__ == "__main__":
    main()
