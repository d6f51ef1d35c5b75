"""How the files here were made, by version 0.1.0 of the package, before its modules had the folders of today.

python make.py
nagd-numba train --hidden 4 --methods nag,adam --epochs 2 --device cpu --save model.npz
nagd-numba train --resume model.npz --epochs 3 --save resumed.npz      of this: the parameters, in resumed_params.npz
"""

import pickle

import numpy as np

from nagd_numba import MLP, History
from nagd_numba.adapters.sklearn import NesterovMLPClassifier, NesterovMLPRegressor
from nagd_numba.schedules import Cosine


def main():
    X = np.random.default_rng(0).normal(size=(30, 3))
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
    net = MLP([3, 4, 2], "tanh", dropout=0.25, l2=0.01, dtype="float64")
    classifier = NesterovMLPClassifier((4,), batch_size=10, random_state=0).partial_fit(X, y, classes=[0, 1, 2])
    regressor = NesterovMLPRegressor(hidden_layer_sizes=(4,), batch_size=10, random_state=0).partial_fit(X, X[:, 0])
    history = History()
    history.append({"loss": 2.0, "lr": 0.1})
    with open("objects.pickle", "wb") as file:
        pickle.dump((net, classifier, regressor, history, Cosine(0.1, 5)), file, protocol=4)
    np.savez(
        "outputs.npz",
        **{"X": X, "y": y, "probabilities": classifier.predict_proba(X), "values": regressor.predict(X)},
        after_another_epoch=classifier.partial_fit(X, y).predict_proba(X),
    )


if __name__ == "__main__":
    main()
