"""FSDP2 and DDP: two processes over gloo train to the bits of torch's SGD under the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", "2.6", reason="torch >= 2.6 is not installed, which has FSDP2")
import torch

from tests.helpers.torch_networks import assert_same_tensors

if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)

ROOT = Path(__file__).parents[2]
RANKS = 2


def found(way, optimizers, folder):
    """What two processes end with, by each optimizer."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    processes = []
    try:
        for rank in range(RANKS):
            arguments = [way, str(rank), str(RANKS), str(folder / "store"), str(folder / "found"), *optimizers]
            command = [sys.executable, "-m", "tests.helpers.torch_ranks", *arguments]
            with (folder / f"said{rank}").open("w") as said:
                processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said))
        for process in processes:
            process.wait(timeout=120)
    finally:
        for process in processes:
            process.kill()
    said = "\n".join((folder / f"said{rank}").read_text()[-2000:] for rank in range(RANKS))
    assert [process.returncode for process in processes] == [0] * RANKS, said
    return torch.load(folder / "found", weights_only=True)


@pytest.mark.parametrize("way", ["fsdp", pytest.param("ddp", marks=pytest.mark.ci)])
def test_bits_of_torchs_sgd(way, tmp_path):
    mine, theirs = found(way, ["NAG", "SGD"], tmp_path)
    assert_same_tensors(mine["parameters"], theirs["parameters"])
    buffers = [[own["momentum_buffer"] for own in x["states"]] for x in (mine, theirs)]
    assert_same_tensors(*buffers)
    assert mine["checkpoint"].keys() == theirs["checkpoint"].keys()
    for name, own in theirs["checkpoint"].items():
        assert mine["checkpoint"][name].keys() == own.keys()
        assert_same_tensors(mine["checkpoint"][name].values(), own.values())


@pytest.mark.slow
def test_adam_under_fsdp(tmp_path):
    """The checkpoint has torch's names.  Steps are as long as the rate, 0.01, where a moment or a count is wrong.

    Without the bias before the batch normalisation, whose gradient is nothing but roundings.
    """
    mine, theirs = found("fsdp", ["Adam", "torch.Adam"], tmp_path)
    for x in (mine, theirs):
        x["parameters"].pop(1)
    torch.testing.assert_close(mine["parameters"], theirs["parameters"], rtol=0, atol=0.01 / 20)
    for name, own in theirs["checkpoint"].items():
        assert mine["checkpoint"][name].keys() == own.keys()
        assert float(mine["checkpoint"][name]["step"]) == 8.0
