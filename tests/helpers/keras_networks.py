"""Checks of the optimizers for Keras in the training of networks: see `keras_checks`."""

import sys

import keras
import numpy as np
from keras import layers, optimizers

from nagd_numba.adapters.keras import NAG
from nagd_numba.io.digits import read_digits

BACKEND = keras.backend.backend()
COMPILED = {"jit_compile": False} if BACKEND == "tensorflow" else {}


def digits(seeds, epochs, network, methods):
    """The losses of each epoch and the last validation accuracies: for each method a row for each seed."""
    pixels, labels = read_digits()
    pixels = pixels.astype(np.float32) / 16
    losses, accuracies = [], []
    for make in methods:
        model = network()
        model.compile(make(), "sparse_categorical_crossentropy", metrics=["accuracy"], **COMPILED)
        model.optimizer.build(model.trainable_variables)
        start = [x.numpy() for x in model.optimizer.variables]
        for seed in range(seeds):
            keras.utils.set_random_seed(seed)
            for x, fresh in zip(model.variables, network().variables, strict=True):
                x.assign(fresh)
            model.optimizer.set_weights(start)
            order = np.random.default_rng(seed).permutation(len(labels))
            found = model.fit(pixels[order], labels[order], epochs=epochs, validation_split=0.1, verbose=0).history
            losses.append(found["loss"])
            accuracies.append(found["val_accuracy"][-1])
    shape = len(methods), seeds
    return np.reshape(losses, (*shape, epochs)), np.reshape(accuracies, shape)


def ours():
    return NAG(0.05, momentum=0.9)


def theirs():
    return optimizers.SGD(0.05, momentum=0.9, nesterov=True)


def articles():
    """The articles' example: the accuracies of NAG, SGD and Adam agree within the spread of seeds.

    The spread is the standard deviation over the seeds; the mean of `n` seeds has it divided by sqrt(n), and the
    difference of two means sqrt(2/n) times it, of which 3 are allowed, and one of the 180 digits.
    """

    def network():
        return keras.Sequential(
            [
                layers.Input((64,)),
                layers.Dense(128, activation="relu"),
                layers.Dropout(0.2),
                layers.Dense(10, activation="softmax"),
            ]
        )

    seeds = 5
    losses, accuracies = digits(seeds, 20, network, [ours, theirs, lambda: optimizers.Adam(0.001)])
    spread = accuracies.std(axis=1, ddof=1).max()
    means = accuracies.mean(axis=1)
    print("accuracies", means.tolist(), "spread", spread, file=sys.stderr)
    assert means.max() - means.min() <= 3 * spread * (2 / seeds) ** 0.5 + 1 / 180, (means, spread)
    assert means.min() > 0.95
    follows(losses)


def follows(losses):
    """From the same seed NAG's losses stay nearer to SGD's than those of other seeds are to each other."""
    apart = abs(losses[0] - losses[1]).max(axis=0)
    spread = np.ptp(losses[1], axis=0)
    print("apart", apart.tolist(), "spread", spread.tolist(), file=sys.stderr)
    assert (apart <= spread).all(), (apart, spread)
    assert (losses[:2, :, -1] < losses[:2, :, 0] / 2).all()


def convolutions():
    """A convolutional network: NAG follows SGD(nesterov=True)."""

    def network():
        return keras.Sequential(
            [
                layers.Input((64,)),
                layers.Reshape((8, 8, 1)),
                layers.Conv2D(8, 3, activation="relu"),
                layers.MaxPooling2D(2),
                layers.Flatten(),
                layers.Dense(10, activation="softmax"),
            ]
        )

    follows(digits(3, 3, network, [ours, theirs])[0])


def recurrences():
    """A recurrent network over the rows of the pictures: NAG follows SGD(nesterov=True)."""

    def network():
        return keras.Sequential(
            [layers.Input((64,)), layers.Reshape((8, 8)), layers.LSTM(16), layers.Dense(10, activation="softmax")]
        )

    follows(digits(3, 4, network, [ours, theirs])[0])
