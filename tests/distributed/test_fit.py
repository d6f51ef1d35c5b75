"""`MLP.fit` on many ranks: their bits, against one rank and against training without ranks."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import nagd_numba
from nagd_numba.distributed import communicator
from nagd_numba.distributed.tree import Tree
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits
from tests.helpers.ranks import require_mpi, run_gloo, run_ranks
from tests.helpers.shared_training import CASES, LABELS, X, digest, train, train_digits

PROGRAM = Path(__file__).parent / "programs" / "fit.py"
processes = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled kernels, in many processes")
ALONE = communicator(None)
ENDS = {"adaptive": "lr", "best": "patience", "target": "target_loss", "diverges": "diverged"}


def on_ranks(ranks, *words):
    require_mpi()
    done = run_ranks(PROGRAM, ranks, *words)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def expected():
    """The digests of all cases on one rank, and that those end early that are to."""
    made = {}
    for name, options in CASES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if name == "diverges" else "error", RuntimeWarning)
            _, params, vel, history = train(None, **options)
        assert history.stopped == ENDS.get(name), name
        made[name] = digest(params, vel, history)
    return made


@processes
@pytest.mark.parametrize("ranks", [pytest.param(3, marks=pytest.mark.ci), pytest.param(2, marks=pytest.mark.slow)])
def test_every_option_has_the_bits_of_one_rank(expected, ranks):
    assert on_ranks(ranks, *CASES) == expected


@processes
@pytest.mark.parametrize("ranks", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4, 8))])
def test_twenty_epochs_on_the_digits(ranks):
    assert on_ranks(ranks, "digits", "True") == {"True": train_digits(None, True)}


@processes
@pytest.mark.ci
def test_gloo_carries_the_same_bits(expected, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    said = run_gloo(PROGRAM, 2, tmp_path, "nag")
    assert json.loads(said[0].splitlines()[-1]) == {"nag": expected["nag"]}


@processes
def test_ordinary_sums_are_those_of_one_rank_but_for_rounding():
    found = on_ranks(2, "ordinary")
    _, params, _, history = train(None, False, dtype="float64", l2=0.01)
    # Ten updates, which enlarge a difference of some 1e-16 of a sum by less than 2 each.
    np.testing.assert_allclose(found["params"], params, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["loss"], history["loss"], rtol=1e-12)
    assert found["params"] != params.tolist()


@processes
def test_what_one_rank_does_wrong_all_ranks_hear_of():
    assert on_ranks(3, "refused") == {}


def test_a_training_goes_on_to_the_same_bits():
    _, params, vel, history = train(None, epochs=2, optimizer="adam", lr=0.01)
    net, *first = train(None, epochs=1, optimizer="adam", lr=0.01)
    options = {"lr": 0.01, "batch_size": 16, "validation": 0.2, "metrics": ["accuracy"], "optimizer": "adam"}
    again = {"vel": first[1], "seed": 3, "history": first[2], "reproducible": True}
    net.fit(first[0], X, LABELS, epochs=2, **again, **options)
    assert digest(*first) == digest(params, vel, history)


@processes
@pytest.mark.ci
def test_the_same_on_two_ranks():
    assert on_ranks(2, "continued") == digest(*train(None, epochs=2, optimizer="adam", lr=0.01)[1:])


@pytest.mark.parametrize(
    "name",
    [
        x if x in ("adam", "accumulate") else pytest.param(x, marks=pytest.mark.ci)
        for x in CASES
        if x not in ("diverges", "many", "one", "few", "wide")
    ],
)
def test_one_rank_without_the_tree_has_the_bits_of_training_without_ranks(name):
    _, *made = train(ALONE, False, **CASES[name])
    _, *usual = train(None, False, **CASES[name])
    assert digest(*made) == digest(*usual)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_update_is_that_of_the_tree_over_the_gradients_of_the_micro_batches(dtype):
    net = nagd_numba.MLP((6, 9, 3), dtype=dtype)
    params = net.init(0)
    expected, vel = params.copy(), np.zeros_like(params)
    # Eight micro-batches of four rows: the means over 4 and over 32 differ by a power of two.
    leaves = [net.value_and_grad(params, X[k : k + 4], LABELS[k : k + 4])[1] / 8 for k in range(0, 32, 4)]
    nagd_numba.step(expected, Tree(8, 1).total(np.array(leaves, dtype)), vel, lr=0.05, momentum=0.9)
    net.fit(params, X[:32], LABELS[:32], epochs=1, batch_size=32, shuffle=False, reproducible=True)
    assert_same_bits([params], [expected])


@pytest.mark.parametrize("name", ["l2", "weights", "accumulate", "wide"])
def test_the_tree_changes_the_rounding_alone(name):
    options = {**CASES[name], "dtype": "float64"}
    _, params, _, history = train(None, **options)
    _, usual, _, past = train(None, False, **options)
    np.testing.assert_allclose(params, usual, rtol=0, atol=1e-12)
    np.testing.assert_allclose(history["loss"], past["loss"], rtol=1e-12)


def test_the_number_of_micro_batches_decides_the_bits():
    digests = {digest(*train(None, micro_batches=m)[1:]) for m in (1, 2, 8, 16)}
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"comm": 3}, TypeError, "comm is an int"),
        ({"reproducible": "yes"}, TypeError, "reproducible is 'yes'"),
        ({"micro_batches": 0}, ValueError, "micro_batches is 0"),
        ({"micro_batches": 33, "reproducible": True}, ValueError, "micro_batches is 33, and a batch has 32 rows"),
    ],
)
def test_refusals(options, kind, match):
    net = nagd_numba.MLP((6, 4, 3))
    params = net.init(0)
    before = params.copy()
    with pytest.raises(kind, match=match):
        net.fit(params, X, LABELS, **options)
    assert_same_bits([params], [before])


def test_importing_and_training_by_oneself_imports_no_engine():
    program = (
        "import sys, numpy as np, nagd_numba\n"
        "net = nagd_numba.MLP((2, 2))\n"
        "net.fit(net.init(0), np.eye(2), [0, 1], epochs=1, reproducible=True, micro_batches=1)\n"
        "assert not {'mpi4py', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
