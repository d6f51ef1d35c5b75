"""`MLP.fit` on the ranks of a communicator: prints a digest for each case, after all ranks were found to have it.

fit.py CASE ...           trainings of `tests.helpers.shared_training`, with `reproducible`
fit.py ordinary           the parameters of one without, as numbers
fit.py digits FORM ...    the digits, "True" with `reproducible`, "False" without
fit.py continued          a training in two parts
fit.py refused            what one rank does wrong
"""

import json

import numpy as np
import pytest

import nagd_numba
from nagd_numba.distributed import communicator
from tests.distributed.programs.world import world
from tests.helpers.shared_training import CASES, LABELS, X, digest, train, train_digits


def main():
    comm, (what, *more) = world()
    ranks = communicator(comm)

    def the_same(x):
        everyones = ranks.all_gather_object(x)
        assert everyones == everyones[:1] * ranks.size, everyones
        return x

    if what == "digits":
        found = {form: the_same(train_digits(comm, form == "True")) for form in more}
    elif what == "ordinary":
        _, params, vel, history = train(comm, False, dtype="float64", l2=0.01)
        the_same((digest(params, vel, history), history.seconds))
        found = {"params": params.tolist(), "loss": history["loss"].tolist()}
    elif what == "continued":
        found = the_same(continued(comm))
    elif what == "refused":
        refused(comm, ranks.rank == 1)
        found = {}
    else:
        found = {}
        for name in (what, *more):
            _, params, vel, history = train(comm, **CASES[name])
            found[name] = the_same((digest(params, vel, history), history.seconds))[0]
    if ranks.rank == 0:
        print(json.dumps(found))


def continued(comm):
    net, params, vel, history = train(comm, epochs=1, optimizer="adam", lr=0.01)
    options = {"lr": 0.01, "batch_size": 16, "validation": 0.2, "metrics": ["accuracy"], "optimizer": "adam"}
    net.fit(params, X, LABELS, epochs=2, vel=vel, seed=3, history=history, comm=comm, reproducible=True, **options)
    return digest(params, vel, history)


def refused(comm, odd):
    """Each call raises on all ranks, the odd one's own error on it; then they go on."""
    net = nagd_numba.MLP((6, 4, 3))
    start = net.init(0)

    def both(match, **options):
        params = start.copy()
        with pytest.raises(ValueError, match=match):
            net.fit(params, **{"X": X, "y": LABELS, "comm": comm, **options})
        np.testing.assert_array_equal(params, start)

    def one(kind, match, **options):
        params = start.copy()
        with pytest.raises(kind if odd else RuntimeError, match=match):
            net.fit(params, **{"X": X, "y": LABELS, "comm": comm, **options})
        return params

    both("batch_size is 16 on rank", batch_size=16 + odd)
    both("seed is", seed=int(odd))
    both("X, y and sample_weight", X=X + np.float32(odd))
    both("micro_batches is None on rank", reproducible=odd)
    one(ValueError, "epochs is 0", epochs=0 if odd else 1)
    one(TypeError, "X has dtype", X=X.astype(complex) if odd else X)
    one(ValueError, "micro_batches is 8, and a batch has 4", batch_size=4 if odd else 32, reproducible=True)

    def callback(history):
        if odd and history.epochs == 2:
            raise LookupError("of the callback")

    one(LookupError, "of the callback", callback=callback)
    history = net.fit(start.copy(), X, LABELS, comm=comm, callback=lambda history: odd and history.epochs == 2)
    assert (history.epochs, history.stopped) == (2, "callback")


if __name__ == "__main__":
    main()
