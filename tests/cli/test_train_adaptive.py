"""`nagd-numba train` with Adam and AdamW, and its checkpoints."""

import numpy as np
import pytest

from tests.helpers.backends import JIT_OFF
from tests.helpers.checkpoints import arrays, run, without_times


@pytest.mark.skipif(JIT_OFF, reason="trains for many steps")
def test_train_and_resume_to_the_same_bits(clusters, tmp_path, capsys):
    common = ["--device", "cpu", "--data", clusters, "--hidden", "8", "--methods", "nag,adam,adamw"]
    common += ["--adam-lr", 0.01]
    assert run("train", *common, "--epochs", 5, "--save", tmp_path / "whole.npz") == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("adam ", "adamw "))
    assert run("train", *common, "--epochs", 2, "--save", tmp_path / "parted.npz") == 0
    assert run("train", "--resume", tmp_path / "parted.npz", "--epochs", 5) == 0
    parted, whole = arrays(tmp_path / "parted.npz"), arrays(tmp_path / "whole.npz")
    assert without_times(parted) == without_times(whole)
    size = whole["nag/params"][1][0]
    assert whole["nag/vel"][1] == (size,)
    adaptive = ("adam", "adamw")
    assert all(whole[f"{name}/vel"][1] == (2 * size,) for name in adaptive)
    with np.load(tmp_path / "whole.npz") as file:
        for name in adaptive:  # they learn, and differ
            losses = file[f"{name}/history"][:, 1]
            assert losses[-1] < file[f"{name}/first_loss"]
        assert len({file[f"{name}/params"].tobytes() for name in adaptive}) == 2
