"""Checkpoints: whole whenever a rank is killed, and read by any number of ranks, to the same bits."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from nagd_numba.distributed import ShardedStep
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF
from tests.helpers.ranks import require_mpi, run_gloo, run_ranks

PROGRAM = Path(__file__).parent / "programs" / "checkpoints.py"
processes = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled kernels, in many processes")


def course(done):
    """What every rank found at the end, and where it began."""
    assert done.returncode == 0, done.stderr[-4000:]
    lines = set(done.stdout.splitlines())
    assert len(lines) == 1, done.stdout
    steps, digest, first = lines.pop().split()
    assert steps == "6"
    return digest, int(first)


@processes
def test_resumed_by_another_number_of_ranks_to_the_same_bits(tmp_path):
    require_mpi()
    reference, _ = course(run_ranks(PROGRAM, 4, "save", str(tmp_path)))
    names = sorted(x.name for x in tmp_path.iterdir())
    assert len(names) == 5, names  # old parts are gone
    assert json.loads((tmp_path / "manifest.json").read_text())["ranks"] == 4
    assert course(run_ranks(PROGRAM, 3, "go", str(tmp_path))) == (reference, 4)


@processes
@pytest.mark.ci
def test_written_by_mpi_and_read_by_gloo(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    require_mpi()
    reference, _ = course(run_ranks(PROGRAM, 2, "save", str(tmp_path / "saved")))
    said = run_gloo(PROGRAM, 3, tmp_path, "go", str(tmp_path / "saved"))
    assert all(f"6 {reference} 4" in text for text in said)


@processes
@pytest.mark.parametrize(
    ("rank", "number"),
    [pytest.param(1, 1, marks=pytest.mark.slow), pytest.param(0, 1, marks=pytest.mark.slow), (0, 2)],
    ids=["before-its-part", "before-that-of-rank-0", "before-the-manifest"],
)
def test_a_rank_that_is_killed_while_saving_leaves_a_whole_checkpoint(tmp_path, rank, number):
    """It is killed in the save after step 4, when the one after step 3 is there."""
    require_mpi()
    folder = tmp_path / "saved"
    done = run_ranks(PROGRAM, 3, "save", str(folder), "killed", str(number), str(rank))
    assert done.returncode != 0
    said = done.stdout + done.stderr  # mpiexec says on the one that a rank was killed, the other ranks on the other
    assert re.search(f"rank {rank} of 3 .* was killed or crashed|KILLED BY SIGNAL|Killed .signal 9|EXIT CODE: 9", said)
    reference, _ = course(run_ranks(PROGRAM, 1, "save", str(tmp_path / "other")))
    assert course(run_ranks(PROGRAM, 2, "go", str(folder))) == (reference, 3)


def saved(folder, rule="nesterov", **options):
    sharded = ShardedStep(None, np.zeros(10_000, np.float32), rule, **options)
    sharded.step(np.ones(10_000, np.float32))
    sharded.save(folder, [1, "a"])
    return sharded


def test_one_process_saves_and_loads(tmp_path):
    sharded = saved(tmp_path / "a" / "b", convention="keras")
    again = ShardedStep(None, np.zeros(10_000, np.float32), convention="keras")
    assert again.load(tmp_path / "a" / "b") == [1, "a"]
    np.testing.assert_array_equal(again.params, sharded.params)
    np.testing.assert_array_equal(again.states["vel"], sharded.states["vel"])
    assert again.t == 1


@pytest.mark.parametrize(
    ("n", "dtype", "rule", "options", "words"),
    [
        (10_001, np.float32, "nesterov", {}, "n is 10000 there, and 10001 here"),
        (10_000, np.float64, "nesterov", {}, "dtype is 'float32' there"),
        (10_000, np.float32, "lion", {}, "rule is 'step' there, and 'lion_step' here"),
        (10_000, np.float32, "nesterov", {"convention": "keras"}, "'torch'"),
    ],
)
def test_a_checkpoint_of_something_else(tmp_path, n, dtype, rule, options, words):
    saved(tmp_path)
    other = ShardedStep(None, np.ones(n, dtype), rule, **options)
    with pytest.raises(ValueError, match="here") as caught:
        other.load(tmp_path)
    assert words in str(caught.value)
    assert (other.params == 1).all()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": "other"}', '{"format": "nagd_numba.distributed 1", "parts": [{"file": "../x"}]}'],
)
def test_a_manifest_that_is_none(tmp_path, text):
    sharded = saved(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="no manifest of a checkpoint"):
        sharded.load(tmp_path)


def test_a_part_of_another_checkpoint(tmp_path):
    """It is a whole file, of the right length, but not the one that the manifest names."""
    sharded = saved(tmp_path)
    before = next(tmp_path.glob("part-*.npz")).read_bytes()
    sharded.step(np.ones(10_000, np.float32))
    sharded.save(tmp_path)
    next(tmp_path.glob("part-*.npz")).write_bytes(before)
    with pytest.raises(ValueError, match="is damaged: it is not the one that was written"):
        sharded.load(tmp_path)


def test_what_cannot_be_kept_loses_nothing(tmp_path):
    sharded = saved(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(TypeError, match="JSON"):
        sharded.save(tmp_path, {1, 2})
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        sharded.save(tmp_path / "file")
    (tmp_path / "file").unlink()
    assert sorted(tmp_path.iterdir()) == before
    assert sharded.load(tmp_path) == [1, "a"]


def test_unfit_state_dicts():
    sharded = ShardedStep(None, np.ones(10, np.float32))
    state = sharded.state_dict()
    for change, words in (
        ({"rule": "adam_step"}, "adam_step"),
        ({"t": -1}, "t is -1"),
        ({"vel": np.zeros(9, np.float32)}, "shape"),
    ):
        with pytest.raises(ValueError, match=r"^ShardedStep.load_state_dict: ") as caught:
            sharded.load_state_dict({**state, **change})
        assert words in str(caught.value)
    del state["vel"]
    with pytest.raises(ValueError, match="no 'vel'"):
        sharded.load_state_dict(state)
    assert (sharded.params == 1).all()
