"""Handwritten digits with Keras: Nesterov's method of this library beside Keras' own SGD(nesterov=True), and Adam.

Trains the same network from the same weights, with the same batches and dropout, for several seeds; prints the
validation accuracy of each method, its spread over the seeds, and the time of an epoch; writes keras_digits.png.
Runs on the backend that KERAS_BACKEND says, else on the first of JAX, PyTorch and TensorFlow that is installed.
"""

import os
import sys
import time
from importlib.util import find_spec

import numpy as np

INSTALLED = [x for x in ("jax", "torch", "tensorflow") if find_spec(x)]
if "KERAS_BACKEND" not in os.environ and INSTALLED:
    os.environ["KERAS_BACKEND"] = INSTALLED[0]
if os.environ.get("KERAS_BACKEND") not in INSTALLED:
    sys.exit("needs a backend on which Keras trains: pip install jax optax, or torch, or tensorflow")

import keras  # noqa: E402 - it looks at KERAS_BACKEND
from keras import layers  # noqa: E402

from nagd_numba.adapters.keras import NAG  # noqa: E402
from nagd_numba.io.digits import read_digits  # noqa: E402

SEEDS, EPOCHS = range(3), 20
METHODS = {
    "NAG": lambda: NAG(0.05, momentum=0.9),
    "SGD, Nesterov": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "Adam": lambda: keras.optimizers.Adam(0.001),
}


def network():
    return keras.Sequential(
        [
            layers.Input((64,)),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )


def train(optimizer):
    """The courses of trainings, one for each seed, and the seconds of an epoch."""
    model = network()
    # With TensorFlow the step calls Python, which XLA cannot.
    compiled = {"jit_compile": False} if keras.backend.backend() == "tensorflow" else {}
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **compiled)
    optimizer.build(model.trainable_variables)
    start = [x.numpy() for x in optimizer.variables]
    ends, courses = [], []
    for seed in SEEDS:  # one model for all: another one would be compiled again
        keras.utils.set_random_seed(seed)
        for x, fresh in zip(model.variables, network().variables, strict=True):
            x.assign(fresh)
        optimizer.set_weights(start)
        order = np.random.default_rng(seed).permutation(len(DIGITS))  # the last tenth is for validation
        history = model.fit(
            PIXELS[order],
            DIGITS[order],
            batch_size=32,
            epochs=EPOCHS,
            validation_split=0.1,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))],
        )
        courses.append(history.history)
    return courses, np.median(np.diff(ends))


PIXELS, DIGITS = read_digits()
PIXELS = PIXELS.astype(np.float32) / 16
print(f"{keras.backend.backend()}; {EPOCHS} epochs, {len(SEEDS)} seeds; validation accuracy after the last:")
losses = {}
for name, make in METHODS.items():
    courses, seconds = train(make())
    losses[name] = np.mean([course["val_loss"] for course in courses], axis=0)
    accuracy = np.array([course["val_accuracy"][-1] for course in courses])
    print(f"{name:14} {accuracy.mean():.3f} +- {accuracy.std(ddof=1):.3f}   {1000 * seconds:.0f} ms an epoch")

try:
    from matplotlib import pyplot
except ImportError:
    print("no plot: matplotlib is not installed")
else:
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, course in losses.items():
        axes.plot(range(1, EPOCHS + 1), course, label=name, linestyle="--" if "SGD" in name else "-")
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation loss")
    axes.set_yscale("log")
    axes.legend()
    figure.savefig("keras_digits.png")
