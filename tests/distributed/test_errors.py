"""Errors of one rank, which all ranks raise before any write; and what a single process is refused."""

from pathlib import Path

import numpy as np
import pytest

import nagd_numba
from nagd_numba import distributed
from nagd_numba.distributed import ShardedStep
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF
from tests.helpers.ranks import require_mpi, run_gloo, run_ranks

PROGRAM = Path(__file__).parent / "programs" / "errors.py"
processes = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled kernels, in many processes")


@processes
@pytest.mark.parametrize("ranks", [3, pytest.param(2, marks=pytest.mark.ci)])
def test_what_one_rank_does_wrong_all_ranks_hear_of(ranks):
    require_mpi()
    done = run_ranks(PROGRAM, ranks)
    assert done.returncode == 0, done.stderr[-4000:]


@processes
@pytest.mark.ci
def test_the_same_by_gloo(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    run_gloo(PROGRAM, 3, tmp_path)


def made(**options):
    return ShardedStep(None, np.zeros(10, np.float32), **options)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"rule": "nestrov"}, ValueError, "did you mean 'nesterov'"),
        ({"lrr": 1.0}, TypeError, "did you mean 'lr'"),
        ({"lr": "much"}, TypeError, "lr is 'much'"),
        ({"convention": "tourch"}, ValueError, "did you mean 'torch'"),
        ({"guard": 1.0}, TypeError, "a nagd_numba.Guard is needed"),
        ({"buckets": 0}, ValueError, "buckets is 0"),
        ({"reproducible": "yes"}, TypeError, "reproducible is 'yes'"),
        ({"divisor": -1.0}, ValueError, "divisor is -1.0"),
        ({"timeout": "long"}, TypeError, "timeout is 'long'"),
    ],
)
def test_unfit_arguments(options, kind, words):
    with pytest.raises(kind, match=r"^ShardedStep: ") as caught:
        made(**options)
    assert words in str(caught.value)


def test_unfit_numbers_of_a_step():
    sharded, grads = made(rule="fista"), np.ones(10, np.float32)
    with pytest.raises(TypeError, match=r"^ShardedStep.step: t is missing"):
        sharded.step(grads)
    with pytest.raises(TypeError, match="prox is none of the numbers"):
        sharded.step(grads, t=1.0, prox="l1")
    with pytest.raises(TypeError, match=r"^ShardedStep.step: .*t is 1.5"):
        made(rule="adam").step(grads, t=1.5)
    assert sharded.t == 0


def test_something_that_is_no_communicator():
    with pytest.raises(TypeError, match="comm is an int; a communicator of mpi4py"):
        distributed.communicator(3)


def test_a_number_of_the_step_may_be_given():
    """A training that goes on counts from where it was."""
    grads = np.ones(10, np.float32)
    sharded = made(rule="adam")
    sharded.step(grads, t=7)
    sharded.step(grads)
    assert sharded.t == 8
    p, m, v = (np.zeros(10, np.float32) for _ in range(3))
    for t in (7, 8):
        nagd_numba.adam_step(p, grads, m, v, t)
    np.testing.assert_array_equal(p, sharded.params)


def test_tensors_share_their_memory_and_autograd_hears_of_it():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    weights = torch.nn.Parameter(torch.ones(4, 5))
    sharded = ShardedStep(None, weights, lr=0.1, momentum=0.0)
    before = weights._version
    assert sharded.step(torch.ones(4, 5)) is weights
    assert weights._version > before
    assert torch.allclose(weights, torch.tensor(0.9))
